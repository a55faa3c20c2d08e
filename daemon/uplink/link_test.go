package uplink

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"fieldpost/daemon/health"
)

func TestConnectSaysWhoWeAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := b.config()
		c.KeepAlive = 45 * time.Second
		c.Will = &Publication{Topic: "status", Payload: []byte("offline")}
		l := run(t, c)
		p := b.peer()
		m := expect[*packets.ConnectPacket](p)
		if m.ProtocolName != "MQTT" || m.ProtocolVersion != 4 || m.ClientIdentifier != "board" || m.CleanSession || m.Keepalive != 45 {
			t.Errorf("connect: got %v", m)
		}
		if !m.WillFlag || m.WillTopic != "status" || string(m.WillMessage) != "offline" || m.WillQos != 1 || m.WillRetain {
			t.Errorf("will: got %v", m)
		}
		l.end(t, p)
	})
}

func TestSubscribesFirstAndAwaitsTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := b.config()
		c.Subscriptions = []Subscription{{"orders", 1}, {"more/#", 0}}
		l := run(t, c)
		sent := l.queue.Publish("readings", []byte("1"))
		p := b.accept(false)
		s := expect[*packets.SubscribePacket](p)
		if s.Topics[0] != "orders" || s.Qoss[0] != 1 {
			t.Errorf("subscribe: got %v", s)
		}
		p.quiet(5 * time.Second)
		if l.Status().Connected {
			t.Error("connected before the subscriptions are answered")
		}
		p.suback(s.MessageID, 1)
		p.grant("more/#", 0)
		id := p.delivery("readings", "1")
		if st := l.Status(); !st.Connected || st.Err != nil || st.Attempts != 0 || st.Denied != nil {
			t.Errorf("status: got %+v", st)
		}
		p.puback(id)
		synctest.Wait()
		if got := settled(sent); got != "acknowledged" || l.Status().Published != 1 {
			t.Errorf("message is %q, %d acknowledged", got, l.Status().Published)
		}
		l.end(t, p)
	})
}

func TestWindowBoundsWhatIsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		for i := range 40 {
			l.queue.Publish("t", []byte(strconv.Itoa(i)))
		}
		p := b.accept(false)
		var ids []uint16
		for i := range 32 {
			ids = append(ids, p.delivery("t", strconv.Itoa(i)))
		}
		p.quiet(10 * time.Second)
		p.puback(ids[0])
		p.delivery("t", "32")
		p.quiet(10 * time.Second)
		l.end(t, p)
	})
}

// A PUBACK that never comes: the connection is made anew and the message sent
// again, and only then counted.
func TestWithheldPuback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		sent := l.queue.Publish("t", []byte("1"))
		p := b.accept(false)
		p.delivery("t", "1")
		began := time.Now()
		p.gone()
		if d := time.Since(began); d < 30*time.Second || d > 33*time.Second {
			t.Errorf("gave up after %v", d)
		}
		synctest.Wait()
		if l.code() != string(health.NoAcknowledgement) {
			t.Errorf("status: %v", l.Status().Err)
		}
		p = b.accept(true)
		id := p.delivery("t", "1")
		synctest.Wait()
		if got := settled(sent); got != "" || l.Status().Published != 0 {
			t.Fatalf("without a PUBACK the message is %q, %d acknowledged", got, l.Status().Published)
		}
		p.puback(id)
		synctest.Wait()
		if got := settled(sent); got != "acknowledged" {
			t.Errorf("message is %q", got)
		}
		l.end(t, p)
	})
}

// Of three messages the broker acknowledges the second and hangs up.
func TestOnlyWhatWasAcknowledgedIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		one, two, three := l.queue.Publish("t", []byte("1")), l.queue.Publish("t", []byte("2")), l.queue.Publish("t", []byte("3"))
		p := b.accept(false)
		p.delivery("t", "1")
		id := p.delivery("t", "2")
		p.delivery("t", "3")
		p.puback(id)
		p.hangUp()
		p = b.accept(true)
		synctest.Wait()
		if a, b, c := settled(one), settled(two), settled(three); a != "" || b != "acknowledged" || c != "" {
			t.Errorf("messages are %q, %q, %q", a, b, c)
		}
		p.delivery("t", "1")
		p.delivery("t", "3")
		l.end(t, p)
	})
}
