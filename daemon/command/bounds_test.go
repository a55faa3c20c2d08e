package command

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/output"
	"fieldpost/sensors/sim"
)

// An order that min_on, min_off or an interlock forbids is refused at once with the
// reason and the time left. An order to the safe level that waits for min_on is answered
// when the line is safe, and does not delay others for its output. [CMD-17]
func TestBoundsFromOrderToAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		board := sim.New()
		bank := output.Open(output.Options{Board: board, Clock: clock.Fake(), Outputs: []output.Config{
			{Name: "up", Pin: "GPIO5", MinOn: 10 * time.Minute, MinOff: time.Minute},
			{Name: "down", Pin: "GPIO6", Interlock: []string{"up"}},
		}})
		dispatcher := New(Options{Thing: thing, Topic: orders, Outputs: bank, Clock: clock.Fake(), MaxLife: time.Hour})
		handle := func(id, out, action string) <-chan Answer {
			done := make(chan Answer, 1)
			go func() {
				a, _ := dispatcher.Handle(order(id, out, action, time.Minute), false, "test")
				done <- a
			}()
			synctest.Wait()
			return done
		}
		gets := func(id, out, action string, status Status, reason Code, hint string) {
			t.Helper()
			done := handle(id, out, action)
			select {
			case a := <-done:
				if a.Status != status || a.Reason != reason || !strings.Contains(a.Hint, hint) {
					t.Errorf("%s: %+v, want %s %s with %q", id, a, status, reason, hint)
				}
			default:
				t.Errorf("%s: no answer", id)
			}
		}
		gets("a", "up", "on", Refused, TooSoon, "for another 1m0s, by its min_off")
		<-time.After(time.Minute)
		gets("b", "up", "on", Done, "", "")
		gets("c", "down", "on", Refused, Interlocked, `"up"`)
		waits := handle("d", "up", "off")
		gets("e", "up", "on", Refused, TooSoon, "by an order that waits")
		gets("f", "down", "off", Done, "", "")
		again := handle("d", "up", "off") // still pending
		<-time.After(10*time.Minute - 1)
		synctest.Wait()
		if len(waits) > 0 {
			t.Errorf("answered before the line was safe: %+v", <-waits)
		}
		<-time.After(1)
		for _, done := range []<-chan Answer{waits, again} {
			if a := <-done; a.Status != Done || a.State != "off" {
				t.Errorf("answer %+v", a)
			}
		}
		gets("g", "down", "on", Done, "", "")
	})
}
