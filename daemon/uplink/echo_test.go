package uplink

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// listening returns the configuration of a link that listens for its own messages on "t".
func listening(b *broker, filters ...string) Config {
	c := b.config()
	c.Echo = Echo{Topic: "t", Subscribe: true}
	for _, f := range filters {
		c.Subscriptions = append(c.Subscriptions, Subscription{f, 1})
	}
	return c
}

// says puts a message. The broker acknowledges it, and with echo delivers it to us.
func (r *running) says(p *peer, payload string, echo bool) {
	p.t.Helper()
	r.queue.Publish("t", []byte(payload))
	p.puback(p.delivery("t", payload))
	if echo {
		p.publish("t", payload, 0, 0, false)
	}
	synctest.Wait()
}

// received returns the messages for the link's user.
func (r *running) received() (all []string) {
	for {
		select {
		case m := <-r.Messages():
			all = append(all, string(m.Payload))
		default:
			return all
		}
	}
}

// asksFor expects the SUBSCRIBE of the echo and answers it.
func (p *peer) asksFor(topic string, code byte) {
	p.t.Helper()
	s := expect[*packets.SubscribePacket](p)
	if s.Topics[0] != topic || s.Qoss[0] != 0 {
		p.t.Fatalf("subscribe: %v", s)
	}
	p.suback(s.MessageID, code)
}

// givesUp expects an UNSUBSCRIBE.
func (p *peer) givesUp(topic string) {
	p.t.Helper()
	u := expect[*packets.UnsubscribePacket](p)
	if !slices.Equal(u.Topics, []string{topic}) {
		p.t.Fatalf("unsubscribe: %v", u)
	}
	a := packets.NewControlPacket(packets.Unsuback).(*packets.UnsubackPacket)
	a.MessageID = u.MessageID
	p.send(a)
	synctest.Wait()
}

// If the topic is already subscribed to, there is no other SUBSCRIBE, and messages go to
// the link's user as usual. An acknowledged message that does not come back is reported,
// until another one does.
func TestEchoOnATopicThatIsSubscribedTo(t *testing.T) {
	for _, filter := range []string{"t", "+", "#"} {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(t)
			l := run(t, listening(b, filter))
			p := b.accept(true)
			p.grant(filter, 1)
			l.says(p, "1", true)
			p.quiet(time.Minute)
			if st := l.Status(); st.Undelivered != "" || !slices.Equal(l.received(), []string{"1"}) {
				t.Errorf("%s: %+v", filter, st)
			}
			l.says(p, "2", false) // one per connection is enough
			p.quiet(time.Minute)
			if st := l.Status(); st.Undelivered != "" {
				t.Errorf("%s, of the second: %+v", filter, st)
			}
			p.hangUp()
			p = b.accept(true)
			p.grant(filter, 1)
			l.says(p, "3", false)
			p.quiet(25 * time.Second)
			if st := l.Status(); st.Undelivered != "" {
				t.Errorf("%s, after 25 s: %+v", filter, st)
			}
			p.quiet(10 * time.Second)
			if st := l.Status(); st.Undelivered != "t" || !st.Connected || st.Err != nil {
				t.Errorf("%s, after 35 s: %+v", filter, st)
			}
			l.says(p, "4", true)
			p.quiet(5 * time.Second)
			if st := l.Status(); st.Undelivered != "" {
				t.Errorf("%s, when the next has come: %+v", filter, st)
			}
			l.end(t, p)
		})
	}
}

// Otherwise the link subscribes to the topic until one message has come, which nobody
// else gets.
func TestEchoByASubscriptionOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, listening(b, "orders"))
		for i := range 2 {
			p := b.accept(true)
			p.publish("t", "of a subscription that the last connection left", 0, 0, false)
			p.grant("orders", 1)
			p.asksFor("t", 0)
			p.publish("t", "another board's", 0, 0, false)
			p.publish("t", "1", 0, 0, true) // a retained message
			l.says(p, "1", true)
			p.givesUp("t")
			p.quiet(time.Minute)
			if st, got := l.Status(), l.received(); !st.Connected || st.Undelivered != "" || st.Denied != nil || got != nil {
				t.Errorf("connection %d: %q came, %+v", i+1, got, st)
			}
			p.hangUp()
		}
		l.end(t, nil)
	})
}

// A retained message, and another board's message, are no echo. The link subscribes again
// after a minute.
func TestNoEchoByASubscriptionOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, listening(b))
		p := b.accept(true)
		p.asksFor("t", 0)
		l.says(p, "1", false)
		p.publish("t", "1", 0, 0, true)
		p.publish("t", "11", 0, 0, false)
		p.givesUp("t")
		if st := l.Status(); st.Undelivered != "t" || !st.Connected {
			t.Errorf("status: %+v", st)
		}
		began := time.Now()
		p.asksFor("t", 0)
		if d := time.Since(began); d < 59*time.Second || d > 63*time.Second {
			t.Errorf("listens again after %v", d)
		}
		l.says(p, "2", true)
		p.givesUp("t")
		if st := l.Status(); st.Undelivered != "" || !st.Connected {
			t.Errorf("status: %+v", st)
		}
		l.end(t, p)
	})
}

// If the broker denies the subscription, or its end, nothing is known or reported, and the link
// does not retry. If the broker hangs up, that takes one connection; if it is silent, two.
func TestListeningIsDenied(t *testing.T) {
	for name, deny := range map[string]func(b *broker, l *running, p *peer) *peer{
		"by a SUBACK": func(b *broker, l *running, p *peer) *peer {
			p.asksFor("t", 0x80)
			return p
		},
		"by hanging up": func(b *broker, l *running, p *peer) *peer {
			expect[*packets.SubscribePacket](p)
			p.hangUp()
			p = b.accept(true)
			p.grant("orders", 1)
			return p
		},
		"without an answer": func(b *broker, l *running, p *peer) *peer {
			for range mostSilences {
				expect[*packets.SubscribePacket](p)
				p.gone()
				p = b.accept(true)
				p.grant("orders", 1)
			}
			return p
		},
		"by hanging up on its end": func(b *broker, l *running, p *peer) *peer {
			p.asksFor("t", 0)
			l.says(p, "0", true)
			expect[*packets.UnsubscribePacket](p)
			p.hangUp()
			p = b.accept(true)
			p.grant("orders", 1)
			return p
		},
		"without an answer to its end": func(b *broker, l *running, p *peer) *peer {
			for range mostSilences {
				p.asksFor("t", 0)
				l.says(p, "0", true)
				expect[*packets.UnsubscribePacket](p)
				p.gone()
				p = b.accept(true)
				p.grant("orders", 1)
			}
			return p
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t)
				l := run(t, listening(b, "orders"))
				p := b.accept(true)
				p.grant("orders", 1)
				p = deny(b, l, p)
				for range 2 {
					l.says(p, "1", false)
					p.quiet(2 * time.Minute)
					if st := l.Status(); !st.Connected || st.Err != nil || st.Denied != nil || st.Undelivered != "" {
						t.Errorf("status: %+v", st)
					}
					p.hangUp()
					p = b.accept(true)
					p.grant("orders", 1)
				}
				l.end(t, p)
			})
		})
	}
}

// A network that breaks while the broker is asked to listen is no denial: the next connection
// asks again.
func TestNetworkBreaksWhileListening(t *testing.T) {
	for name, end := range map[string]func(l *running, p *peer){
		"once": func(_ *running, p *peer) {
			expect[*packets.SubscribePacket](p)
			p.gone()
		},
		"between two that answer": func(l *running, p *peer) {
			p.asksFor("t", 0)
			l.says(p, "0", true)
			expect[*packets.UnsubscribePacket](p)
			p.gone()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t)
				l := run(t, listening(b))
				for range 3 {
					p := b.accept(true)
					end(l, p)
					p = b.accept(true)
					p.asksFor("t", 0)
					l.says(p, "1", true)
					p.givesUp("t")
					p.hangUp()
				}
				l.end(t, nil)
			})
		})
	}
}

// With AWS IoT Core, or if it is switched off, there is no subscription for the echo.
func TestNobodyListens(t *testing.T) {
	for name, config := range map[string]func(b *broker) Config{
		"AWS": func(b *broker) Config {
			c := listening(b)
			c.Limits = LimitsAWS
			return c
		},
		"not wanted": func(b *broker) Config {
			c := listening(b)
			c.Echo.Subscribe = false
			return c
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t)
				l := run(t, config(b))
				p := b.accept(true)
				l.says(p, "1", false)
				p.quiet(2 * time.Minute)
				if st := l.Status(); !st.Connected || st.Undelivered != "" {
					t.Errorf("status: %+v", st)
				}
				l.end(t, p)
			})
		})
	}
}

// The subscription for the echo is also ended at the stop.
func TestEndTakesTheSubscriptionBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, listening(b))
		p := b.accept(true)
		p.asksFor("t", 0)
		synctest.Wait()
		l.cancel()
		if u := expect[*packets.UnsubscribePacket](p); !slices.Equal(u.Topics, []string{"t"}) {
			t.Errorf("unsubscribe: %v", u)
		}
		expect[*packets.DisconnectPacket](p)
		l.end(t, p)
	})
}
