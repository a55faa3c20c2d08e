package uplink

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

func TestForgottenSessionIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := b.config()
		c.Subscriptions = []Subscription{{"orders", 1}}
		l := run(t, c)
		for i, present := range []bool{false, true, false, true} {
			p := b.accept(present)
			p.grant("orders", 1) // subscribed again, whether or not the broker has a session
			synctest.Wait()
			if st := l.Status(); st.SessionPresent != present || st.SessionsLost != uint64(i/2) || st.Connects != uint64(i+1) {
				t.Errorf("connection %d: %+v", i, st)
			}
			p.hangUp()
		}
		l.end(t, nil)
	})
}

// A lost session is counted once, when the link is connected, even if the connections
// that noticed it failed, and the successful one has the session that they created.
func TestLostSessionIsCountedWhenTheLinkStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, orders(b))
		p := b.accept(false) // the first one, which cannot have lost anything
		expect[*packets.SubscribePacket](p)
		p.reset()
		p = b.accept(true)
		p.grant("orders", 1)
		synctest.Wait()
		if n := l.Status().SessionsLost; n != 0 {
			t.Errorf("%d sessions lost at the start", n)
		}
		p.hangUp()
		for range 2 {
			p = b.accept(false)
			expect[*packets.SubscribePacket](p)
			p.reset()
		}
		synctest.Wait()
		if n := l.Status().SessionsLost; n != 0 {
			t.Errorf("%d sessions lost while the link does not stand", n)
		}
		for range 2 {
			p = b.accept(true)
			p.grant("orders", 1)
			synctest.Wait()
			if st := l.Status(); !st.Connected || st.SessionsLost != 1 {
				t.Errorf("status: %+v", st)
			}
			p.hangUp()
		}
		l.end(t, nil)
	})
}

// The broker first reports the session of an earlier process, and then no longer.
func TestSessionOfAnEarlierProcessIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, orders(b))
		p := b.accept(true)
		expect[*packets.SubscribePacket](p)
		p.reset()
		p = b.accept(false)
		p.grant("orders", 1)
		synctest.Wait()
		if st := l.Status(); !st.Connected || st.SessionsLost != 1 {
			t.Errorf("status: %+v", st)
		}
		l.end(t, p)
	})
}

// lives gives a link one connection after the other. Each one reports whether there is a
// session, and may deliver a message before the SUBSCRIBE.
func lives(t *testing.T, c func(*broker) Config, play func(b *broker, live func(present bool, message string) uint64)) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, c(b))
		play(b, func(present bool, message string) uint64 {
			p := b.peer()
			expect[*packets.ConnectPacket](p)
			p.connack(0, present)
			if message != "" { // a redelivery, which may come after the SUBSCRIBE
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

// ActiveMQ always reports "no session", although it keeps one.
func TestBrokerThatNeverSaysThatItHasASession(t *testing.T) {
	lives(t, orders, func(b *broker, live func(bool, string) uint64) {
		for i := range 6 {
			if n := live(false, ""); n != 0 {
				t.Errorf("connection %d: %d sessions lost", i+1, n)
			}
		}
		// A broker that reports a session later had really lost the earlier ones.
		if n := live(true, ""); n != 5 {
			t.Errorf("%d sessions lost, want 5", n)
		}
		if n := live(false, ""); n != 6 {
			t.Errorf("%d sessions lost, want 6", n)
		}
	})
}

// A message from the session proves that the session was not lost.
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

// Without a subscription nothing is kept, so nothing can be lost.
func TestNoSessionToLose(t *testing.T) {
	lives(t, (*broker).config, func(b *broker, live func(bool, string) uint64) {
		live(true, "")
		if n := live(false, ""); n != 0 {
			t.Errorf("%d sessions lost", n)
		}
	})
}
