package uplink

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"fieldpost/daemon/health"
)

// goodbye ends the connection as mochi does when it stops or another client takes
// the session over.
func (p *peer) goodbye(packet ...byte) {
	p.t.Helper()
	_, err := p.conn.Write(packet)
	must(p.t, err)
	p.gone()
	synctest.Wait()
}

// A DISCONNECT from the broker is a close in order: at its end, once; again and again
// it is another client that takes the session over.
func TestDisconnectFromTheBroker(t *testing.T) {
	for name, packet := range map[string][]byte{
		"as in MQTT 3.1.1":                   {0xe0, 0},
		"with MQTT 5's reason":               {0xe0, 1, 0x8e},
		"and with its reason and properties": {0xe0, 2, 0x8e, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t)
				l := run(t, b.config())
				for i := range 3 {
					p := b.accept(true)
					p.quiet(time.Second)
					p.goodbye(packet...)
					want := health.NetworkDown
					if i == 2 {
						want = health.DuplicateClient
					}
					if l.code() != string(want) || strings.Contains(l.Status().Err.Error(), "not MQTT") {
						t.Errorf("close %d: %v, want %s", i+1, l.Status().Err, want)
					}
				}
				l.end(t, nil)
			})
		})
	}
}

// Instead of the CONNACK it refuses.
func TestDisconnectInsteadOfTheConnack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		p := b.peer()
		expect[*packets.ConnectPacket](p)
		p.goodbye(0xe0, 0)
		checkSays(t, l.Status().Err.(*Explained), health.ConnectRefused, "client/board")
		l.end(t, nil)
	})
}

// Only 0x80 denies a subscription. Any other code that does not grant it is answered
// by asking again under another packet identifier: mochi gives 0x91 where one of
// its deliveries has the same.
func TestOtherSubackCodesAreAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, orders(b))
		p := b.accept(true)
		used := map[uint16]bool{}
		for _, code := range []byte{0x91, 0x97, 3, 1} {
			s := expect[*packets.SubscribePacket](p)
			if used[s.MessageID] || s.Topics[0] != "orders" || s.Qoss[0] != 1 {
				t.Errorf("asked for %v at %v under %d, after %v", s.Topics, s.Qoss, s.MessageID, used)
			}
			used[s.MessageID] = true
			p.suback(s.MessageID, code)
		}
		p.quiet(2 * time.Minute)
		if st := l.Status(); !st.Connected || st.Denied != nil || st.Err != nil {
			t.Errorf("status: %+v", st)
		}
		l.end(t, p)
	})
}

// One that comes each time is a denial all the same: readings go on, and it is
// asked for again after a minute.
func TestSubackCodeThatStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, orders(b))
		p := b.accept(true)
		for range askAgain {
			p.grant("orders", 0x87)
		}
		synctest.Wait()
		if st := l.Status(); !st.Connected || !slices.Equal(st.Denied, []string{"orders"}) {
			t.Errorf("status: %+v", st)
		}
		sent := l.queue.Publish("t", []byte("1"))
		p.puback(p.delivery("t", "1"))
		p.grant("orders", 2) // more than was asked for
		synctest.Wait()
		if st := l.Status(); !st.Connected || st.Denied != nil || settled(sent) != "acknowledged" {
			t.Errorf("status: %+v", st)
		}
		l.end(t, p)
	})
}

// A SUBACK for what was asked before is not the answer to what is asked now.
func TestSubackOfAnotherRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, orders(b))
		p := b.accept(true)
		s := expect[*packets.SubscribePacket](p)
		p.suback(s.MessageID+1, 0x80)
		p.quiet(time.Second)
		p.suback(s.MessageID, 1)
		synctest.Wait()
		if st := l.Status(); !st.Connected || st.Denied != nil {
			t.Errorf("status: %+v", st)
		}
		l.end(t, p)
	})
}

// lives gives a link one connection after the other. Each says whether it has the
// session, may bring a message before the SUBSCRIBE, and lasts.
func lives(t *testing.T, c func(*broker) Config, play func(b *broker, live func(present bool, message string) uint64)) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, c(b))
		play(b, func(present bool, message string) uint64 {
			p := b.peer()
			expect[*packets.ConnectPacket](p)
			p.connack(0, present)
			if message != "" { // as a redelivery, which may come after the SUBSCRIBE
				m := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
				m.TopicName, m.Payload, m.Qos, m.MessageID, m.Dup = "orders", []byte(message), 1, 7, true
				p.send(m)
			}
			if len(l.cfg.Subscriptions) > 0 {
				p.grant("orders", 1)
			}
			p.quiet(2 * time.Minute)
			n := l.Status().SessionsLost
			p.hangUp()
			synctest.Wait()
			return n
		})
		l.end(t, nil)
	})
}

// ActiveMQ says "no session" each time, though it keeps it.
func TestBrokerThatNeverSaysThatItHasASession(t *testing.T) {
	lives(t, orders, func(b *broker, live func(bool, string) uint64) {
		for i := range 6 {
			if n := live(false, ""); n != 0 {
				t.Errorf("connection %d: %d sessions lost", i+1, n)
			}
		}
		// One that says so in the end had forgotten it all those times.
		if n := live(true, ""); n != 5 {
			t.Errorf("%d sessions lost, want 5", n)
		}
		if n := live(false, ""); n != 6 {
			t.Errorf("%d sessions lost, want 6", n)
		}
	})
}

// A message from the session proves that it was not lost.
func TestMessageProvesTheSession(t *testing.T) {
	lives(t, orders, func(b *broker, live func(bool, string) uint64) {
		live(false, "")
		live(false, "")
		live(false, "from before")
		live(false, "")
		if n := live(true, ""); n != 0 {
			t.Errorf("%d sessions lost", n)
		}
		if n := live(false, ""); n != 1 {
			t.Errorf("%d sessions lost, want 1", n)
		}
	})
}

// Without a subscription nothing is kept, so nothing is lost.
func TestNoSessionToLose(t *testing.T) {
	lives(t, (*broker).config, func(b *broker, live func(bool, string) uint64) {
		live(true, "")
		if n := live(false, ""); n != 0 {
			t.Errorf("%d sessions lost", n)
		}
	})
}

// Another client with our id is found out with such a broker too.
func TestRivalOnABrokerThatNeverSaysThatItHasASession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		for range 3 {
			p := b.accept(false)
			p.quiet(time.Second)
			p.hangUp()
			synctest.Wait()
		}
		if l.code() != string(health.DuplicateClient) {
			t.Errorf("status: %v", l.Status().Err)
		}
		l.end(t, nil)
	})
}
