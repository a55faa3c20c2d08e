package uplink

import (
	"testing"
	"testing/synctest"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"fieldpost/daemon/health"
)

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
				p := b.accept(true) // the link reconnects in any case
				p.grant("orders", 1)
				p.delivery("t", "1")
				l.end(t, p)
			})
		})
	}
}
