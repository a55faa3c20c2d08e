package uplink

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"fieldpost/daemon/health"
)

func TestConnackRefusals(t *testing.T) {
	for code, want := range map[byte]health.Code{1: health.ConnectRefused, 2: health.ConnectRefused, 3: health.NetworkDown, 4: health.ConnectRefused, 5: health.ConnectRefused, 7: health.ConnectRefused, 255: health.ConnectRefused} {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(t)
			l := run(t, b.config())
			sent := l.queue.Publish("t", []byte("1"))
			p := b.peer()
			expect[*packets.ConnectPacket](p)
			p.connack(code, false)
			p.gone()
			synctest.Wait()
			if st := l.Status(); l.code() != string(want) || st.Connected || st.Attempts != 1 {
				t.Errorf("code %d: status %+v", code, st)
			}
			if code == 5 && !strings.Contains(l.Status().Err.(*Explained).Hint, "client/board") {
				t.Errorf("hint does not name the client id: %v", l.Status().Err)
			}
			p = b.accept(false)
			p.puback(p.delivery("t", "1"))
			synctest.Wait()
			if got := settled(sent); got != "acknowledged" || l.Status().Err != nil {
				t.Errorf("afterwards the message is %q, status %v", got, l.Status().Err)
			}
			l.end(t, p)
		})
	}
}

// The broker hangs up at each step.
func TestHangUps(t *testing.T) {
	steps := []struct {
		name string
		play func(*broker)
		want health.Code
	}{
		{"at once", func(b *broker) { b.raw().Close() }, health.NetworkDown},
		{"instead of a CONNACK", func(b *broker) {
			p := b.peer()
			expect[*packets.ConnectPacket](p)
			p.hangUp()
		}, health.ConnectRefused},
		{"without reading the CONNECT", func(b *broker) { b.peer().reset() }, health.NetworkDown},
		{"instead of a SUBACK", func(b *broker) {
			p := b.accept(false)
			expect[*packets.SubscribePacket](p)
			p.hangUp()
		}, health.NetworkDown},
		{"instead of a PUBACK", func(b *broker) {
			p := b.accept(false)
			p.grant("orders", 1)
			p.delivery("t", "1")
			p.hangUp()
		}, health.NetworkDown},
		{"in the middle of a packet", func(b *broker) {
			p := b.accept(false)
			p.grant("orders", 1)
			p.delivery("t", "1")
			_, err := p.conn.Write([]byte{0x40, 2, 0})
			must(p.t, err)
			p.hangUp()
		}, health.NetworkDown},
	}
	for _, s := range steps {
		t.Run(s.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t)
				c := b.config()
				c.Subscriptions = []Subscription{{"orders", 1}}
				l := run(t, c)
				l.queue.Publish("t", []byte("1"))
				s.play(b)
				synctest.Wait()
				if st := l.Status(); l.code() != string(s.want) || st.Connected {
					t.Errorf("want %s, status %+v", s.want, st)
				}
				p := b.accept(true) // it comes again, whatever it was
				p.grant("orders", 1)
				p.delivery("t", "1")
				l.end(t, p)
			})
		})
	}
}

func TestIdleHangUpsMeanAnotherClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		for i := range 3 {
			p := b.accept(true)
			p.quiet(3 * time.Second)
			p.hangUp()
			synctest.Wait()
			want := health.NetworkDown
			if i == 2 {
				want = health.DuplicateClient
			}
			if l.code() != string(want) {
				t.Errorf("after %d hang-ups: %v", i+1, l.Status().Err)
			}
		}
		p := b.accept(true)
		p.quiet(50 * time.Second)
		if st := l.Status(); !st.Connected || l.code() != string(health.DuplicateClient) {
			t.Errorf("while it may happen again: %+v", st)
		}
		p.quiet(time.Minute)
		if st := l.Status(); !st.Connected || st.Err != nil {
			t.Errorf("after a minute: %+v", st)
		}
		p.hangUp()
		synctest.Wait()
		if l.code() != string(health.NetworkDown) {
			t.Errorf("after a long connection: %v", l.Status().Err)
		}
		l.end(t, nil)
	})
}

// The same while messages are in flight, of topics that the broker does take: it
// takes longer to be sure, and no topic is denied for it.
func TestAnotherClientWhileMessagesFlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		n := 0
		next := func() { l.queue.Publish("t", []byte{byte('a' + n)}); n++ }
		next()
		for i := range 8 {
			p := b.accept(true)
			p.puback(expect[*packets.PublishPacket](p).MessageID)
			next()
			expect[*packets.PublishPacket](p)
			synctest.Wait()
			must(t, p.conn.CloseWrite())
			p.gone()
			synctest.Wait()
			want := health.NetworkDown
			if i >= 5 {
				want = health.DuplicateClient
			}
			if l.code() != string(want) {
				t.Errorf("after %d: %v", i+1, l.Status().Err)
			}
		}
		l.end(t, nil)
	})
}
