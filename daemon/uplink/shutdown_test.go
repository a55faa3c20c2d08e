package uplink

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

func farewell(c *Config) {
	c.Farewell = func() Publication { return Publication{Topic: "status", Payload: []byte("offline")} }
}

// A clean stop: first the messages in flight and in the outbox, then the farewell, then
// DISCONNECT.
func TestOrderlyEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := b.config()
		c.Window = 2
		farewell(&c)
		l := run(t, c)
		var done []<-chan error
		for i := range 4 {
			done = append(done, l.queue.Publish("t", []byte(strconv.Itoa(i))))
		}
		p := b.accept(false)
		first, second := p.delivery("t", "0"), p.delivery("t", "1")
		l.cancel()
		synctest.Wait()
		p.puback(first)
		p.puback(second)
		for i := 2; i < 4; i++ {
			p.puback(p.delivery("t", strconv.Itoa(i)))
		}
		p.puback(p.delivery("status", "offline"))
		expect[*packets.DisconnectPacket](p)
		began := time.Now()
		l.end(t, p)
		if d := time.Since(began); d > 0 {
			t.Errorf("took %v more to end", d)
		}
		for i, ch := range done {
			if got := settled(ch); got != "acknowledged" {
				t.Errorf("message %d is %q", i, got)
			}
		}
		if st := l.Status(); st.Connected || st.Published != 4 {
			t.Errorf("status: %+v", st)
		}
	})
}

// The link also stops if the broker acknowledges nothing.
func TestEndWithoutPubacks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := b.config()
		c.Drain = 3 * time.Second
		farewell(&c)
		l := run(t, c)
		done := l.queue.Publish("t", []byte("1"))
		p := b.accept(false)
		p.delivery("t", "1")
		l.cancel()
		began := time.Now()
		p.delivery("status", "offline")
		if d := time.Since(began); d != 3*time.Second {
			t.Errorf("drained for %v", d)
		}
		expect[*packets.DisconnectPacket](p)
		l.end(t, p)
		if d := time.Since(began); d != 5*time.Second {
			t.Errorf("ended after %v", d)
		}
		if got := settled(done); got != "" {
			t.Errorf("message is %q", got)
		}
	})
}

// The link also stops if the broker does not read.
func TestEndWithAStalledPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := b.config()
		farewell(&c)
		l := run(t, c)
		p := b.accept(false)
		synctest.Wait()
		l.queue.Publish("t", make([]byte, 100<<10))
		synctest.Wait()
		began := time.Now()
		l.cancel()
		must(t, <-l.ended)
		if d := time.Since(began); d > 10*time.Second {
			t.Errorf("ended after %v", d)
		}
		p.hangUp()
	})
}

// A stop works at once, whatever the link waits for.
func TestEndWhileWaiting(t *testing.T) {
	for name, play := range map[string]func(b *broker) *peer{
		"for the network": func(b *broker) *peer { return nil },
		"for TLS":         func(b *broker) *peer { b.raw(); return nil },
		"for the CONNACK": func(b *broker) *peer {
			p := b.peer()
			expect[*packets.ConnectPacket](p)
			return p
		},
		"for the SUBACK": func(b *broker) *peer {
			p := b.accept(false)
			expect[*packets.SubscribePacket](p)
			return p
		},
		"for the next attempt": func(b *broker) *peer { b.raw().Close(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t)
				l := run(t, orders(b))
				l.backoff.random = func(below time.Duration) time.Duration { return below - 1 }
				p := play(b)
				synctest.Wait()
				began := time.Now()
				l.cancel()
				must(t, <-l.ended)
				if d := time.Since(began); d != 0 {
					t.Errorf("ended after %v", d)
				}
				if st := l.Status(); st.Connected || st.Err != nil {
					t.Errorf("status: %+v", st)
				}
				if p != nil {
					p.hangUp()
				}
			})
		})
	}
}

// The link can be run again, and sends unacknowledged messages again.
func TestRunAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		done := l.queue.Publish("t", []byte("1"))
		p := b.accept(false)
		p.delivery("t", "1")
		l.end(t, p)
		ended := make(chan error, 1)
		go func() { ended <- l.Run(t.Context()) }()
		p = b.accept(true)
		p.puback(p.delivery("t", "1"))
		synctest.Wait()
		if got := settled(done); got != "acknowledged" {
			t.Errorf("message is %q", got)
		}
		p.hangUp()
		go func() { // the broker ends before the test's context
			for c := range b.dialed {
				c.Close()
			}
		}()
		t.Cleanup(func() {
			must(t, <-ended)
			close(b.dialed)
		})
	})
}
