package clock

import (
	"testing"
	"testing/synctest"
	"time"
)

// The other clock is asked once in a burst; in between the stamps go on.
func TestBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, real := 0, Fake()
		b := NewBurst(Func(func() Stamp {
			asked++
			return real.Now()
		}), 100*time.Millisecond)
		for i, want := range []int{1, 1, 1, 1, 2, 2} {
			if got := b.Now(); got != real.Now() || asked != want {
				t.Errorf("%d: %+v, want %+v; asked %d times, want %d", i, got, real.Now(), asked, want)
			}
			<-time.After(26 * time.Millisecond)
		}
	})
}
