package uplink

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

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

// Only 0x80 denies a subscription. After any other failure code the link subscribes again
// with another packet identifier: mochi returns 0x91 if one of its deliveries has the
// same.
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

// If that code comes each time it counts as a denial: readings continue, and the link
// retries after a minute.
func TestSubackCodeThatStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, orders(b))
		p := b.accept(true)
		for range subscribeTries {
			p.grant("orders", 0x87)
		}
		synctest.Wait()
		if st := l.Status(); !st.Connected || !slices.Equal(st.Denied, []string{"orders"}) {
			t.Errorf("status: %+v", st)
		}
		sent := l.queue.Publish("t", []byte("1"))
		p.puback(p.delivery("t", "1"))
		p.grant("orders", 2) // a higher QoS than requested
		synctest.Wait()
		if st := l.Status(); !st.Connected || st.Denied != nil || settled(sent) != "acknowledged" {
			t.Errorf("status: %+v", st)
		}
		l.end(t, p)
	})
}

// The SUBACK of an earlier SUBSCRIBE is no answer to the present one.
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

// moved returns the configuration of a link that subscribes to "orders" and whose session
// may have stale filters.
func moved(b *broker, stale ...string) (c Config, released *[]string) {
	released = &[]string{}
	c = orders(b)
	c.Unsubscribe = stale
	c.Unsubscribed = func(f string) { *released = append(*released, f) }
	return c, released
}

// release answers the UNSUBSCRIBE for filter.
func (p *peer) release(filter string) {
	p.t.Helper()
	u := expect[*packets.UnsubscribePacket](p)
	if len(u.Topics) != 1 || u.Topics[0] != filter || u.Qos != 1 {
		p.t.Fatalf("unsubscribe: want %q, got %q", filter, u.Topics)
	}
	a := packets.NewControlPacket(packets.Unsuback).(*packets.UnsubackPacket)
	a.MessageID = u.MessageID
	p.send(a)
}

// The link ends an earlier configuration's subscriptions once, on the first connection,
// after it has subscribed and before it publishes.
func TestStaleFiltersAreGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c, released := moved(b, "old/orders", "orders", "older/#", "old/orders", "", "a#")
		l := run(t, c)
		sent := l.queue.Publish("t", []byte("1"))
		p := b.accept(true)
		p.grant("orders", 1)
		p.publish("old/orders", "queued", 1, 5, false) // a late message is still received
		p.release("old/orders")
		p.publish("orders", "between", 1, 6, false)
		p.release("older/#")
		p.puback(p.delivery("t", "1"))
		for _, want := range []string{"queued", "between"} {
			if m := <-l.Messages(); string(m.Payload) != want {
				t.Errorf("got %q", m.Payload)
			}
		}
		synctest.Wait()
		if want := []string{"old/orders", "older/#"}; !slices.Equal(*released, want) || settled(sent) != "acknowledged" || !l.Status().Connected {
			t.Errorf("released %q, want %q; %+v", *released, want, l.Status())
		}
		p.hangUp()
		p = b.accept(true)
		p.grant("orders", 1)
		p.quiet(10 * time.Second)
		l.end(t, p)
	})
}

// A clean session has no old subscriptions.
func TestStaleFiltersOfACleanSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c, released := moved(b, "old/orders")
		c.Clean = true
		l := run(t, c)
		p := b.accept(false)
		p.grant("orders", 1)
		p.quiet(10 * time.Second)
		if !slices.Equal(*released, []string{"old/orders"}) {
			t.Errorf("released %q", *released)
		}
		l.end(t, p)
	})
}

// If the broker hangs up on an UNSUBSCRIBE, the link tries three times and then continues
// without.
func TestBrokerHangsUpOnUnsubscribe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c, released := moved(b, "old/orders", "older/orders")
		l := run(t, c)
		for range denyAfter[closedByPeer] {
			p := b.accept(true)
			p.grant("orders", 1)
			expect[*packets.UnsubscribePacket](p)
			p.hangUp()
		}
		p := b.accept(true)
		p.grant("orders", 1)
		p.release("older/orders")
		p.quiet(10 * time.Second)
		st := l.Status()
		if !st.Connected || st.Err != nil || len(st.Denied) != 0 || !slices.Equal(*released, []string{"older/orders"}) {
			t.Errorf("released %q; status %+v", *released, st)
		}
		p.hangUp()
		p = b.accept(true)
		p.grant("orders", 1)
		p.quiet(10 * time.Second)
		l.end(t, p)
	})
}

// If the broker does not answer an UNSUBSCRIBE, the link tries once.
func TestBrokerIsSilentOnUnsubscribe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c, released := moved(b, "old/orders")
		l := run(t, c)
		p := b.accept(true)
		p.grant("orders", 1)
		expect[*packets.UnsubscribePacket](p)
		p.gone()
		synctest.Wait()
		if code := l.code(); code != "no_acknowledgement" {
			t.Errorf("code %q", code)
		}
		p = b.accept(true)
		p.grant("orders", 1)
		p.quiet(10 * time.Second)
		if st := l.Status(); !st.Connected || len(*released) != 0 {
			t.Errorf("released %q; status %+v", *released, st)
		}
		l.end(t, p)
	})
}

// A network failure meanwhile is no answer.
func TestNetworkFailsOnUnsubscribe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c, released := moved(b, "old/orders")
		l := run(t, c)
		for range denyAfter[closedByPeer] {
			p := b.accept(true)
			p.grant("orders", 1)
			expect[*packets.UnsubscribePacket](p)
			p.reset()
		}
		p := b.accept(true)
		p.grant("orders", 1)
		p.release("old/orders")
		synctest.Wait()
		if !slices.Equal(*released, []string{"old/orders"}) {
			t.Errorf("released %q", *released)
		}
		l.end(t, p)
	})
}

// A stop while the broker does not answer.
func TestEndDuringUnsubscribe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c, _ := moved(b, "old/orders")
		l := run(t, c)
		p := b.accept(true)
		p.grant("orders", 1)
		expect[*packets.UnsubscribePacket](p)
		l.cancel()
		expect[*packets.DisconnectPacket](p)
		l.end(t, p)
	})
}

// The same without any subscription, so that there is no other request.
func TestBrokerHangsUpOnUnsubscribeAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c, _ := moved(b, "old/orders")
		c.Subscriptions = nil
		l := run(t, c)
		for range denyAfter[closedByPeer] {
			p := b.accept(true)
			expect[*packets.UnsubscribePacket](p)
			p.hangUp()
		}
		p := b.accept(true)
		p.quiet(10 * time.Second)
		if st := l.Status(); !st.Connected || st.Err != nil {
			t.Errorf("status %+v", st)
		}
		l.end(t, p)
	})
}
