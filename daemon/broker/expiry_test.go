package broker

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"fieldpost/daemon/awsiot"
)

// clockwork is a clock that a test sets forward. One with a start stands still otherwise.
type clockwork struct {
	start time.Time
	ahead atomic.Int64
}

func (c *clockwork) now() time.Time {
	at := c.start
	if at.IsZero() {
		at = time.Now()
	}
	return at.Add(time.Duration(c.ahead.Load()))
}

func (c *clockwork) pass(d time.Duration) { c.ahead.Add(int64(d)) }

func expiring(pk packets.Packet, life uint32) packets.Packet {
	pk.Properties.MessageExpiryInterval = life
	return pk
}

func openAt(t *testing.T, o Options, c *clockwork) *Broker {
	t.Helper()
	o.Dir, o.now = t.TempDir(), c.now
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	start(t, b)
	return b
}

// What was published over MQTT 5 with an expiry vanishes from a session, also from one of
// MQTT 3.1.1; what has time left is delivered with what is left of it.
func TestMessageExpiry(t *testing.T) {
	clock := &clockwork{}
	b := openAt(t, Options{}, clock)
	old, _ := join5(t, b, lasting(hello("thing-5", false), 600))
	old.subscribe(1, "a")
	three := join(t, b, "thing-3", false)
	three.subscribe(1, "a")
	for _, c := range []*client{old, three} {
		c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
		c.wantClosed()
	}
	p, _ := join5(t, b, hello("thing-pub", true))
	for i, pk := range []packets.Packet{
		expiring(publication(1, "a", "short"), 10),
		expiring(publication(2, "a", "long"), 100),
		publication(3, "a", "for ever"),
	} {
		p.send(pk)
		if ack := p.want(packets.Puback); ack.PacketID != uint16(i+1) || ack.ReasonCode != 0 && ack.ReasonCode != 16 {
			t.Fatalf("PUBACK %d with %d", ack.PacketID, ack.ReasonCode)
		}
	}
	clock.pass(11 * time.Second)
	for _, version := range []byte{3, 5} {
		c := dial(t, b)
		if version == 3 {
			c.send(hello("thing-3", false))
		} else {
			c.version = 5
			c.send(lasting(hello("thing-5", false), 600))
		}
		if ack := c.want(packets.Connack); !ack.SessionPresent {
			t.Fatal("the session is gone")
		}
		got := map[string]uint32{}
		for range 2 {
			pk := c.want(packets.Publish)
			got[string(pk.Payload)] = pk.Properties.MessageExpiryInterval
		}
		c.wantNothing()
		if _, ok := got["short"]; ok || len(got) != 2 {
			t.Errorf("version %d got %v", version, got)
		}
		if left := got["long"]; version == 5 && (left < 85 || left > 90) {
			t.Errorf("%d s are left of the long one, want 89", left)
		}
	}
}

func lasting(pk packets.Packet, seconds uint32) packets.Packet {
	pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = seconds, true
	return pk
}

// A retained message expires too.
func TestRetainedExpiry(t *testing.T) {
	clock := &clockwork{}
	b := openAt(t, Options{}, clock)
	p, _ := join5(t, b, hello("thing-pub", true))
	p.send(expiring(retained(publication(1, "a", "x")), 10))
	p.want(packets.Puback)
	join(t, b, "thing-1", true).wantRetained("a", "x")
	clock.pass(10 * time.Second)
	c := join(t, b, "thing-2", true)
	c.subscribe(1, "a")
	c.wantNothing()
}

func (c *client) wantRetained(topic, payload string) {
	c.t.Helper()
	c.subscribe(1, topic)
	if pk := c.receive(topic, payload); !pk.FixedHeader.Retain {
		c.t.Error("it came as a new one")
	}
}

// Only a filter that is the topic itself gets the retained message.
func TestRetainedNeedsExactFilter(t *testing.T) {
	b := open(t, nil)
	p := join(t, b, "thing-pub", true)
	p.send(retained(publication(1, "a/b", "kept")))
	p.want(packets.Puback)
	c := join(t, b, "thing-1", true)
	c.subscribe(1, "a/+")
	c.subscribe(2, "a/#")
	c.wantNothing()
	c.subscribe(3, "a/b")
	c.receive("a/b", "kept")
}

// a/# does not match a, unlike in MQTT.
func TestParentIsNotMatched(t *testing.T) {
	b := open(t, nil)
	c := join(t, b, "thing-1", true)
	c.subscribe(1, "a/#")
	c.publish(2, "a", "parent")
	c.wantNothing()
	c.publish(3, "a/", "child")
	c.receive("a/", "child")
	c.subscribe(4, "a") // which is asked for by itself
	c.publish(5, "a", "own")
	c.receive("a", "own")
}

// A session lasts an hour, or as long as the option says; over MQTT 5 as long as the client
// asks for, and no longer.
func TestSessionExpiry(t *testing.T) {
	clock := &clockwork{}
	b := openAt(t, Options{SessionExpiry: 2 * time.Hour}, clock)
	for _, c := range []struct {
		name    string
		asked   uint32 // seconds; 0 is MQTT 3.1.1
		away    time.Duration
		present bool
	}{
		{"thing-a", 0, 2*time.Hour - time.Minute, true},
		{"thing-b", 0, 2*time.Hour + time.Minute, false},
		{"thing-c", 60, 50 * time.Second, true},
		{"thing-d", 60, 70 * time.Second, false},
		{"thing-e", 1 << 30, 2*time.Hour + time.Minute, false},
	} {
		clock.ahead.Store(0)
		enter := func() (*client, packets.Packet) {
			if c.asked > 0 {
				return join5(t, b, lasting(hello(c.name, false), c.asked))
			}
			cl := dial(t, b)
			cl.send(hello(c.name, false))
			return cl, cl.want(packets.Connack)
		}
		cl, ack := enter()
		if ack.SessionPresent {
			t.Fatalf("%s: present at the start", c.name)
		}
		if want := uint32(2 * time.Hour / time.Second); c.asked > want && ack.Properties.SessionExpiryInterval != want {
			t.Errorf("%s: granted %d s, want %d", c.name, ack.Properties.SessionExpiryInterval, want)
		}
		cl.subscribe(1, "a")
		cl.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
		cl.wantClosed()
		awaitGone(t, b, c.name)
		clock.pass(c.away)
		if _, ack := enter(); ack.SessionPresent != c.present {
			t.Errorf("%s: after %v present %v, want %v", c.name, c.away, ack.SessionPresent, c.present)
		}
	}
}

// awaitGone waits until the server has noted when a client went.
func awaitGone(t *testing.T, b *Broker, id string) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range patience / time.Millisecond {
		if cl, ok := b.server.Clients.Get(id); !ok || cl.StopTime() != 0 {
			return
		}
		<-tick.C
	}
	t.Fatalf("%s is still there", id)
}

// Over MQTT 5 a limit has its reason code too.
func TestVersion5Limits(t *testing.T) {
	b := open(t, nil)
	enter := func() *client {
		c, ack := join5(t, b, hello("thing-1", true))
		if ack.ReasonCode != 0 || ack.Properties.ReceiveMaximum != awsiot.ReceiveMax || ack.Properties.MaximumQos != 1 || ack.Properties.MaximumPacketSize == 0 {
			t.Fatalf("CONNACK %+v", ack)
		}
		return c
	}
	c := enter()
	c.send(publication(1, "a/b/c/d/e/f/g/h/i", "x"))
	if ack := c.want(packets.Puback); ack.ReasonCode != 144 {
		t.Errorf("too many slashes: PUBACK with %d, want 144", ack.ReasonCode)
	}
	c.send(subscription(2, "1", "2", "3", "4", "5", "6", "7", "8", "9"))
	if ack := c.want(packets.Suback); len(ack.ReasonCodes) != 9 || ack.ReasonCodes[0] != 151 {
		t.Errorf("nine filters: SUBACK with %v, want 151", ack.ReasonCodes)
	}
	c.send(subscription(3, "a/#/b"))
	if ack := c.want(packets.Suback); ack.ReasonCodes[0] != 143 {
		t.Errorf("a bad filter: SUBACK with %v, want 143", ack.ReasonCodes)
	}
	c.send(publication(4, "a", string(make([]byte, awsiot.PayloadMax+1))))
	if d := c.want(packets.Disconnect); d.ReasonCode != 149 {
		t.Errorf("too large: DISCONNECT with %d, want 149", d.ReasonCode)
	}
	c = enter()
	two := publication(5, "a", "x")
	two.FixedHeader.Qos = 2
	c.send(two)
	if d := c.want(packets.Disconnect); d.ReasonCode != 155 {
		t.Errorf("qos 2: DISCONNECT with %d, want 155", d.ReasonCode)
	}
	if _, ack := join5(t, b, hello("$x", true)); ack.ReasonCode != 133 {
		t.Errorf("client id $x: CONNACK with %d, want 133", ack.ReasonCode)
	}
	first := enter()
	enter()
	if d := first.want(packets.Disconnect); d.ReasonCode != 142 {
		t.Errorf("taken over: DISCONNECT with %d, want 142", d.ReasonCode)
	}
}
