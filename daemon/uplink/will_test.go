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

// willing returns the configuration of a link with a will.
func willing(b *broker) Config {
	c := orders(b)
	c.Will = &Publication{Topic: "status", Payload: []byte("offline")}
	return c
}

// asAsked simulates a broker whose policy refuses some CONNECTs. It returns the contents
// of each CONNECT until one is accepted, and that connection.
func (b *broker) asAsked(refuses func(*packets.ConnectPacket) bool, most int) (had []string, p *peer) {
	b.t.Helper()
	for range most {
		p := b.peer()
		m := expect[*packets.ConnectPacket](p)
		what := "nothing"
		switch {
		case m.WillFlag && !m.CleanSession:
			what = "both"
		case m.WillFlag:
			what = "will"
		case !m.CleanSession:
			what = "session"
		}
		had = append(had, what)
		if !refuses(m) {
			p.connack(0, true)
			return had, p
		}
		p.hangUp()
		synctest.Wait()
	}
	return had, nil
}

// A policy that refuses the will is detected, and the link connects without one. It keeps
// its session.
func TestPolicyRefusesTheWill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, willing(b))
		noWill := func(m *packets.ConnectPacket) bool { return m.WillFlag }
		had, p := b.asAsked(noWill, 9)
		if want := []string{"both", "both", "both", "session"}; !slices.Equal(had, want) {
			t.Fatalf("CONNECTs had %q, want %q", had, want)
		}
		p.grant("orders", 1)
		synctest.Wait()
		if st := l.Status(); !st.Connected {
			t.Errorf("status: %+v", st)
		}
		checkSays(t, l.Status().Err.(*Explained), health.WillRefused, "without, so no `offline` is published", "LastWill", "broker.will: none")
		// This lasts for an hour; then the will is tried again once.
		p.hangUp()
		if had, p = b.asAsked(noWill, 9); !slices.Equal(had, []string{"session"}) {
			t.Errorf("then CONNECTs had %q", had)
		}
		p.grant("orders", 1)
		p.quiet(61 * time.Minute)
		p.hangUp()
		if had, p = b.asAsked(noWill, 9); !slices.Equal(had, []string{"both", "session"}) {
			t.Errorf("after an hour CONNECTs had %q", had)
		}
		p.grant("orders", 1)
		synctest.Wait()
		// Somebody fixed the policy and calls Reconnect.
		done := l.ask()
		expect[*packets.DisconnectPacket](p)
		had, p = b.asAsked(func(*packets.ConnectPacket) bool { return false }, 9)
		p.grant("orders", 1)
		if st := <-done; !slices.Equal(had, []string{"both"}) || st.Err != nil {
			t.Errorf("when it is mended: %q, %+v", had, st)
		}
		l.end(t, p)
	})
}

// If the session or the client id is refused, the link does not give up its session to
// find out which. It names both.
func TestPolicyRefusesTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, willing(b))
		noSession := func(m *packets.ConnectPacket) bool { return !m.CleanSession }
		b.asAsked(noSession, 1)
		checkSays(t, l.Status().Err.(*Explained), health.ConnectRefused, "client/board", "iot:ConnectAttributes", "LastWill (or set broker.will: none)", "PersistentConnect")
		had, _ := b.asAsked(noSession, 7)
		if want := []string{"both", "both", "session", "both", "both", "both", "session"}; !slices.Equal(had, want) {
			t.Errorf("CONNECTs had %q, want %q", had, want)
		}
		why := l.Status().Err.(*Explained)
		checkSays(t, why, health.ConnectRefused, "also without a will", "PersistentConnect")
		if strings.Contains(why.Hint, "LastWill") {
			t.Errorf("hint: %s", why.Hint)
		}
		l.end(t, nil)
	})
}

// A link without a will and with a clean session has nothing to leave out.
func TestNoAttributesToRefuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := b.config()
		c.Clean = true
		l := run(t, c)
		had, _ := b.asAsked(func(*packets.ConnectPacket) bool { return true }, 6)
		why := l.Status().Err.(*Explained)
		if strings.Contains(why.Error()+why.Hint, "will") || strings.Contains(why.Hint, "ConnectAttributes") {
			t.Errorf("%v; %s", why, why.Hint)
		}
		if slices.ContainsFunc(had, func(s string) bool { return s != "nothing" }) {
			t.Errorf("CONNECTs had %q", had)
		}
		l.end(t, nil)
	})
}

// Other ends of a connection say nothing about the will.
func TestWillIsKeptOnABadNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, willing(b))
		for range 6 {
			p := b.peer()
			if m := expect[*packets.ConnectPacket](p); !m.WillFlag {
				t.Error("a CONNECT without a will")
			}
			p.reset()
		}
		l.end(t, nil)
	})
}
