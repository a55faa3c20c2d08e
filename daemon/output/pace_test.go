package output

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
)

// A bank with nothing to do wakes up every [health.IdleEvery], together with the loop that sets
// the pace.
func TestBankKeepsPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all health.Heartbeats
		other := all.Register("other")
		bank := Open(Options{Board: newBoard(), Clock: clock.Fake(), Heartbeat: all.Register("output timers")})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- bank.Run(ctx) }()
		<-time.After(300 * time.Millisecond)
		other.Pace(time.Now())
		other.End()
		<-time.After(2 * health.IdleEvery)
		for range 5 {
			synctest.Wait()
			if _, age := all.Slowest(); age != 0 {
				t.Errorf("it woke up %v before", age)
			}
			<-time.After(health.IdleEvery - 1)
			synctest.Wait()
			if _, age := all.Slowest(); age != health.IdleEvery-1 {
				t.Errorf("it woke up %v too early", health.IdleEvery-1-age)
			}
			<-time.After(1)
		}
		cancel()
		<-done
		if err := bank.Close(); err != nil {
			t.Error(err)
		}
	})
}
