package clock

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestFakeFollowsPackageTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := Fake()
		a := c.Now()
		<-time.After(90 * time.Second)
		b := c.Now()
		if d := b.Mono - a.Mono; d != 90*time.Second {
			t.Errorf("Mono went on by %v", d)
		}
		if d := b.Wall.Sub(a.Wall); d != 90*time.Second {
			t.Errorf("Wall went on by %v", d)
		}
		if !a.Synced || a.Boot != b.Boot {
			t.Errorf("got %+v, then %+v", a, b)
		}
	})
}

func TestFunc(t *testing.T) {
	want := Stamp{Boot: "x", Mono: 3}
	if got := Func(func() Stamp { return want }).Now(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
