package uplink

import (
	"runtime"
	"strconv"
	"testing"
	"testing/synctest"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

func TestRunTwiceAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		p := b.accept(false)
		if err := l.Run(t.Context()); err == nil {
			t.Error("ran twice at once")
		}
		l.end(t, p)
	})
}

// Two hundred connections fail with messages in flight. All messages that count as
// acknowledged had a PUBACK, and no goroutine is left.
func TestKillsLoseNothingAndLeakNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const kills = 200
		b := newBroker(t)
		l := run(t, b.config())
		total := kills*2 + 30
		var done []<-chan error
		for i := range total {
			done = append(done, l.queue.Publish("t", []byte(strconv.Itoa(i))))
		}
		acked := map[string]bool{}
		goroutines := 0
		for kill := range kills {
			p := b.accept(true)
			for range 2 {
				m := expect[*packets.PublishPacket](p)
				acked[string(m.Payload)] = true
				p.puback(m.MessageID)
			}
			expect[*packets.PublishPacket](p)
			p.hangUp()
			synctest.Wait()
			if kill == 0 {
				goroutines = runtime.NumGoroutine()
			}
		}
		if now := runtime.NumGoroutine(); now > goroutines+5 { // a few belong to the runtime
			t.Errorf("%d goroutines after the first kill, %d after the last", goroutines, now)
		}
		p := b.accept(true)
		for len(acked) < total {
			m := expect[*packets.PublishPacket](p)
			acked[string(m.Payload)] = true
			p.puback(m.MessageID)
		}
		synctest.Wait()
		for i, ch := range done {
			if got := settled(ch); got != "acknowledged" || !acked[strconv.Itoa(i)] {
				t.Errorf("message %d is %q, the broker acknowledged it: %v", i, got, acked[strconv.Itoa(i)])
			}
		}
		l.end(t, p)
	})
}
