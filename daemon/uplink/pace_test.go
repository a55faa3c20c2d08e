package uplink

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A link with nothing to do waits as long as its Wait says.
func TestHeartbeatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		cfg := b.config()
		var beats atomic.Int64 // counted by the link's goroutine
		cfg.Heartbeat = func() { beats.Add(1) }
		cfg.HeartbeatWait = func(_ time.Time, most time.Duration) time.Duration { return most / 4 }
		l := run(t, cfg)
		p := b.accept(true)
		synctest.Wait()
		before := beats.Load()
		<-time.After(10*time.Second + time.Millisecond)
		synctest.Wait()
		if n := beats.Load() - before; n != 20 {
			t.Errorf("%d heartbeats in ten seconds", n)
		}
		l.end(t, p)
	})
}
