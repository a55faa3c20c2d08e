package uplink

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// orders returns the configuration of a link that subscribes to "orders".
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
		begun.Ack() // has no effect, also on other messages
		p.quiet(5 * time.Second)
		p.publish("orders", "begun", 1, 1, false)
		p.publish("orders", "waiting", 1, 2, false)
		// Waiting messages at QoS 1 are dropped, because they come again. Those at QoS 0
		// are kept.
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

// Nobody receives. At QoS 1 nothing may be lost, so the broker must keep the messages.
// The number and bytes of waiting ones are limited.
func TestInboundOverflow(t *testing.T) {
	const large = 60_000
	for name, c := range map[string]struct {
		room  int
		bytes string
	}{"small": {maxInbound, ""}, "large": {maxInboundBytes / (large + inboundOverhead + 8), strings.Repeat(".", large)}} {
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
				p.gone() // without a PUBACK before
				synctest.Wait()
				if e := l.Status().Err; e == nil || !strings.Contains(e.Error(), "too many messages are waiting") {
					t.Errorf("status: %v", e)
				}
				p = b.accept(true)
				p.grant("orders", 1)
				p.publish("orders", "0", 1, 1, false)
				if m := <-l.Messages(); string(m.Payload) != "0" || m.Lost() {
					t.Errorf("first message on the new connection: %.20q (lost: %v)", m.Payload, m.Lost())
				}
				l.end(t, p)
			})
		})
	}
}

// When there is no room, reading waits. So a broker that sends more at once than fits,
// and repeats it on each connection, can deliver everything.
func TestInboundWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, orders(b))
		p := b.accept(false)
		p.grant("orders", 1)
		const all = maxInbound + 100
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for i := range all {
				p.publish("orders", strconv.Itoa(i), 1, uint16(i+1), false)
			}
		}()
		synctest.Wait()
		for i := range all {
			m := <-l.Messages()
			if string(m.Payload) != strconv.Itoa(i) {
				t.Fatalf("message %d is %q", i, m.Payload)
			}
			if i >= 100 {
				continue
			}
			m.Ack()
			if a := expect[*packets.PubackPacket](p); a.MessageID != uint16(i+1) {
				t.Fatalf("puback for %d", a.MessageID)
			}
		}
		<-sent
		if st := l.Status(); !st.Connected || st.Dropped != 0 {
			t.Errorf("status: %+v", st)
		}
		l.end(t, p)
	})
}

// If the receiver acknowledges nothing, the number of held messages is limited.
func TestUnacknowledgedIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, orders(b))
		p := b.accept(false)
		p.grant("orders", 1)
		n := 0
		go func() {
			for range l.Messages() {
				n++
			}
		}()
		for i := range maxUnacked + 1 {
			p.publish("orders", "", 1, uint16(i+1), false)
		}
		p.gone()
		synctest.Wait()
		if n > maxUnacked+1 {
			t.Errorf("%d messages came", n)
		}
		close(l.inbound.ch) // ends the receiver
		l.end(t, nil)
	})
}

func TestInboundOverflowAtQoS0IsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, orders(b))
		p := b.accept(false)
		p.grant("orders", 1)
		synctest.Wait()
		for i := range maxInbound + 5 {
			p.publish("orders", strconv.Itoa(i), 0, 0, false)
		}
		p.puback(99) // an unknown id, which is ignored
		synctest.Wait()
		st := l.Status()
		if !st.Connected || st.Dropped != 5 {
			t.Errorf("status: %+v", st)
		}
		l.end(t, p)
	})
}

// A message over the limit is skipped and acknowledged, because it would come again on
// every connection otherwise. Its beginning is received.
func TestTooLargeMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := orders(b)
		c.MaxPayload = 64 << 10
		l := run(t, c)
		p := b.accept(false)
		p.grant("orders", 1)
		fits := strings.Repeat("x", 64<<10)
		p.publish("orders", fits, 0, 0, false)
		if m := <-l.Messages(); len(m.Payload) != 64<<10 || m.Truncated() {
			t.Errorf("got %d bytes, cut: %v", len(m.Payload), m.Truncated())
		}
		go p.publish("orders", fits+"x", 1, 513, false)
		if a := expect[*packets.PubackPacket](p); a.MessageID != 513 {
			t.Errorf("puback for %d, want 513", a.MessageID)
		}
		for _, size := range []int{64<<10 + 1, 870_000, 3 << 20} {
			if size > 64<<10+1 {
				p.publish("orders", strings.Repeat("x", size), 0, 0, false)
			}
			m := <-l.Messages()
			if !m.Truncated() || m.Size != size || len(m.Payload) != truncatedBytes || cap(m.Payload) != truncatedBytes || m.QoS != 0 || m.Lost() {
				t.Errorf("got %d of %d bytes at QoS %d, want %d of %d", len(m.Payload), m.Size, m.QoS, truncatedBytes, size)
			}
			m.Ack() // does nothing
		}
		p.publish("orders", "small", 1, 7, false)
		if m := <-l.Messages(); string(m.Payload) != "small" || m.Truncated() {
			t.Errorf("got %d bytes", len(m.Payload))
		}
		p.quiet(time.Second)
		if st := l.Status(); !st.Connected || st.Dropped != 3 {
			t.Errorf("status: %+v", st)
		}
		l.end(t, p)
	})
}

// trickle sends a message of 870 kB at 8 KiB/s: it takes nearly two minutes.
func (p *peer) trickle(topic string, id uint16) {
	p.t.Helper()
	var packet bytes.Buffer
	m := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	m.TopicName, m.Payload, m.Qos, m.MessageID = topic, make([]byte, 870_000), 1, id
	must(p.t, m.Write(&packet))
	for packet.Len() > 0 {
		_, err := p.conn.Write(packet.Next(8 << 10))
		must(p.t, err)
		<-time.After(time.Second)
	}
}

// A large message on a slow connection: incoming bytes are a sign of life, even if the
// PINGRESP, the SUBACK and PUBACKs come after them. If the link closed the connection,
// the broker would start over, for ever.
func TestLargeMessageOnASlowLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := orders(b)
		c.KeepAlive = 5 * time.Second
		l := run(t, c)
		p := b.accept(true)
		s := expect[*packets.SubscribePacket](p)
		p.trickle("orders", 8)
		p.suback(s.MessageID, 1)
		if a := expect[*packets.PubackPacket](p); a.MessageID != 8 {
			t.Errorf("puback for %d", a.MessageID)
		}
		sent := l.queue.Publish("t", []byte("1"))
		id := p.delivery("t", "1")
		p.trickle("orders", 9)
		p.puback(id)
		for {
			cp, err := p.read()
			must(t, err)
			if a, ok := cp.(*packets.PubackPacket); ok && a.MessageID == 9 {
				break
			}
		}
		synctest.Wait()
		if st := l.Status(); !st.Connected || st.Dropped != 2 || settled(sent) != "acknowledged" {
			t.Errorf("status: %+v", st)
		}
		l.end(t, p)
	})
}

// A message that stops in the middle is no sign of life.
func TestMessageThatStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := orders(b)
		c.KeepAlive = 5 * time.Second
		l := run(t, c)
		p := b.accept(false)
		p.grant("orders", 1)
		_, err := p.conn.Write([]byte{0x30, 0xff, 0xff, 0x3f, 0, 1, 't', 'x'})
		must(t, err)
		must(t, p.conn.SetReadDeadline(time.Now().Add(time.Minute)))
		for err == nil {
			_, err = packets.ReadPacket(p.conn) // pings, which are not answered
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("the connection goes on")
		}
		l.end(t, p)
	})
}

// Dropped messages are logged at most once a minute.
func TestDropsAreLoggedSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		var said bytes.Buffer
		c := orders(b)
		c.MaxPayload, c.Log = truncatedBytes, slog.New(slog.NewTextHandler(&said, nil))
		l := run(t, c)
		p := b.accept(false)
		p.grant("orders", 1)
		for i := range 121 {
			p.publish("orders/"+strings.Repeat("x", 60_000), strings.Repeat("x", truncatedBytes+1), 0, 0, false)
			if i%2 == 1 {
				p.quiet(time.Second)
			}
		}
		l.end(t, p)
		if n := strings.Count(said.String(), "too large"); n != 2 || said.Len() > 8<<10 || !strings.Contains(said.String(), "messages=120") {
			t.Errorf("%d lines, %d bytes:\n%.2000s", n, said.Len(), said.String())
		}
	})
}
