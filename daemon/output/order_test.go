package output

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// An order that expires while it waits for its line does nothing. One that is in time, or
// has no expiry, acts.
func TestOrderExpiresWhileItWaits(t *testing.T) {
	for _, c := range []struct {
		what   string
		within time.Duration // until it expires; 0: never
		want   error
	}{
		{"too late", time.Second, ErrExpired},
		{"at its expiry", 2 * time.Second, ErrExpired},
		{"just in time", 2*time.Second + 1, nil},
		{"whenever", 0, nil},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newSlowBoard()
				n := openOn(t, b.Board, b, "", pump)
				b.free = make(chan struct{})
				first, second := make(chan error, 1), make(chan error, 1)
				go func() {
					_, err := n.bank.Do(Order{Output: "pump", Action: ActionOff})
					first <- err
				}()
				synctest.Wait()
				o := Order{Output: "pump", Action: ActionOn}
				if c.within > 0 {
					o.Expires = time.Now().Add(c.within)
				}
				go func() {
					_, err := n.bank.Do(o)
					second <- err
				}()
				n.after(2 * time.Second)
				if waits := len(second) == 0; waits != (c.want == nil) {
					t.Errorf("it waits: %v", waits) // an answer does not wait for a line that hangs
				}
				close(b.free)
				if err := <-first; err != nil {
					t.Errorf("the order before: %v", err)
				}
				if err := <-second; !errors.Is(err, c.want) {
					t.Errorf("%v, want %v", err, c.want)
				}
				n.wantWire("GPIO27", LevelOf(c.want == nil))
			})
		})
	}
}
