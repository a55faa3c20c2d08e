package uplink

import (
	"testing"
	"testing/synctest"
	"time"
)

// A link with nothing to do waits as long as it is told to.
func TestHeartbeatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		cfg := b.config()
		beats := 0
		cfg.Heartbeat = func() { beats++ }
		cfg.HeartbeatWait = func(_ time.Time, most time.Duration) time.Duration { return most / 4 }
		l := run(t, cfg)
		p := b.accept(true)
		synctest.Wait()
		before := beats
		<-time.After(10*time.Second + time.Millisecond)
		synctest.Wait()
		if n := beats - before; n != 20 {
			t.Errorf("%d heartbeats in ten seconds", n)
		}
		l.end(t, p)
	})
}
