package uplink

import (
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// orders is the configuration of a link that subscribes to "orders".
func orders(b *broker) Config {
	c := b.config()
	c.Subscriptions = []Subscription{{"orders", 1}}
	return c
}

func TestMessageIsAcknowledgedByItsReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, orders(b))
		p := b.accept(false)
		p.grant("orders", 1)
		p.publish("orders", "open", 1, 7, true)
		m := <-l.Messages()
		if m.Topic != "orders" || string(m.Payload) != "open" || m.QoS != 1 || !m.Retained || m.Lost() {
			t.Errorf("got %+v", m)
		}
		p.quiet(10 * time.Second) // no PUBACK by itself
		m.Ack()
		m.Ack()
		if a := expect[*packets.PubackPacket](p); a.MessageID != 7 {
			t.Errorf("puback for %d, want 7", a.MessageID)
		}
		p.quiet(10 * time.Second)
		l.end(t, p)
	})
}

// A resumed session delivers before anything is subscribed to.
func TestMessageRightAfterTheConnack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, orders(b))
		p := b.accept(true)
		go p.publish("orders", "early", 1, 1, false)
		s := expect[*packets.SubscribePacket](p)
		m := <-l.Messages()
		if string(m.Payload) != "early" {
			t.Errorf("got %q", m.Payload)
		}
		p.suback(s.MessageID, 1)
		m.Ack()
		expect[*packets.PubackPacket](p)
		l.end(t, p)
	})
}

func TestMessageOfALostConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, orders(b))
		p := b.accept(false)
		p.grant("orders", 1)
		p.publish("orders", "begun", 1, 1, false)
		begun := <-l.Messages()
		p.publish("orders", "waiting", 1, 2, false)
		p.publish("orders", "once", 0, 0, false)
		synctest.Wait()
		p.hangUp()
		p = b.accept(true)
		p.grant("orders", 1)
		if !begun.Lost() {
			t.Error("the message is not lost with its connection")
		}
		begun.Ack() // goes nowhere, and to no other message
		p.quiet(5 * time.Second)
		p.publish("orders", "begun", 1, 1, false)
		p.publish("orders", "waiting", 1, 2, false)
		// What waited at QoS 1 is dropped, as it comes again; at QoS 0 it is kept.
		for _, want := range []string{"once", "begun", "waiting"} {
			m := <-l.Messages()
			if string(m.Payload) != want || m.Lost() {
				t.Errorf("got %q (lost: %v), want %q", m.Payload, m.Lost(), want)
			}
			m.Ack()
			if m.QoS == 1 {
				expect[*packets.PubackPacket](p)
			}
		}
		l.end(t, p)
	})
}

// Nobody receives. At QoS 1 nothing may be lost, so the broker has to keep it.
func TestInboundOverflow(t *testing.T) {
	for name, c := range map[string]struct {
		room  int
		bytes string
	}{"small": {inboundRoom, ""}, "large": {largeRoom, strings.Repeat(".", largeFrom)}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t)
				l := run(t, orders(b))
				p := b.accept(false)
				p.grant("orders", 1)
				for i := range c.room {
					p.publish("orders", strconv.Itoa(i)+c.bytes, 1, uint16(i+1), false)
				}
				synctest.Wait()
				if !l.Status().Connected {
					t.Fatalf("gone too early: %v", l.Status().Err)
				}
				p.publish("orders", "one too many"+c.bytes, 1, uint16(c.room+1), false)
				p.gone() // and no PUBACK before
				synctest.Wait()
				if e := l.Status().Err; e == nil || !strings.Contains(e.Error(), "too many messages wait") {
					t.Errorf("status: %v", e)
				}
				p = b.accept(true)
				p.grant("orders", 1)
				p.publish("orders", "0", 1, 1, false)
				if m := <-l.Messages(); string(m.Payload) != "0" || m.Lost() {
					t.Errorf("first message on the new connection: %q (lost: %v)", m.Payload, m.Lost())
				}
				l.end(t, p)
			})
		})
	}
}

func TestInboundOverflowAtQoS0IsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, orders(b))
		p := b.accept(false)
		p.grant("orders", 1)
		synctest.Wait()
		for i := range inboundRoom + 5 {
			p.publish("orders", strconv.Itoa(i), 0, 0, false)
		}
		p.puback(99) // for nothing we sent: passed over
		synctest.Wait()
		st := l.Status()
		if !st.Connected || st.Dropped != 5 {
			t.Errorf("status: %+v", st)
		}
		l.end(t, p)
	})
}

// A message too big to be kept is read past and acknowledged, or it would come
// back on every connection.
func TestTooBigMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, orders(b))
		p := b.accept(false)
		p.grant("orders", 1)
		big := strings.Repeat("x", maxInbound)
		go p.publish("orders", big, 1, 513, false)
		if a := expect[*packets.PubackPacket](p); a.MessageID != 513 {
			t.Errorf("puback for %d, want 513", a.MessageID)
		}
		p.publish("orders", big, 0, 0, false)
		p.publish("orders", "small", 0, 0, false)
		if m := <-l.Messages(); string(m.Payload) != "small" {
			t.Errorf("got %d bytes", len(m.Payload))
		}
		synctest.Wait()
		if st := l.Status(); !st.Connected || st.Dropped != 2 {
			t.Errorf("status: %+v", st)
		}
		l.end(t, p)
	})
}
