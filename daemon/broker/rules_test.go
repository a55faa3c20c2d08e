package broker

import (
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"fieldpost/daemon/awsiot"
)

func retained(pk packets.Packet) packets.Packet {
	pk.FixedHeader.Retain = true
	return pk
}

// The whole of the tutorial, allowed and denied, each on a connection of its own.
func TestTutorialPolicy(t *testing.T) {
	b := open(t, awsiot.Tutorial())
	t.Run("allowed", func(t *testing.T) {
		s := join(t, b, "test-sub", true)
		s.subscribe(7, "test/topic")
		join(t, b, "thing-1", true).publish(1, "test/topic", "21.5")
		s.receive("test/topic", "21.5")
	})
	t.Run("another client id", func(t *testing.T) {
		c := dial(t, b)
		c.send(hello("laptop", true))
		c.wantClosed()
	})
	for name, pk := range map[string]packets.Packet{
		"publish at QoS 1":   publication(1, "test/other", "x"),
		"publish at QoS 0":   publication(0, "test/other", "x"),
		"publish below":      publication(1, "test/topic/answers", "x"),
		"publish retained":   retained(publication(1, "test/topic", "x")),
		"subscribe":          subscription(1, "test/other"),
		"subscribe to all":   subscription(1, "#"),
		"one filter of two":  subscription(1, "test/topic", "test/+"),
		"another's policy":   subscription(1, "topic/test/topic"),
		"a retained nothing": retained(publication(1, "test/topic", "")),
	} {
		t.Run(name, func(t *testing.T) {
			c := join(t, b, "thing-1", true)
			c.send(pk)
			c.wantClosed()
		})
	}
}

// As mosquitto says no: what is denied is acknowledged and goes to nobody, and a
// subscription is answered. The connection stands.
func TestAckDenied(t *testing.T) {
	b, err := New(Options{Dir: t.TempDir(), Policy: awsiot.Tutorial(), AckDenied: true})
	if err != nil {
		t.Fatal(err)
	}
	start(t, b)
	s := join(t, b, "test-sub", true)
	s.subscribe(7, "test/topic")
	c := join(t, b, "thing-1", true)
	c.publish(1, "test/other", "x")
	c.send(retained(publication(2, "test/topic", "x")))
	if ack := c.want(packets.Puback); ack.PacketID != 2 {
		t.Errorf("PUBACK for %d", ack.PacketID)
	}
	c.send(publication(0, "test/other", "x"))
	c.send(subscription(3, "test/other", "test/topic"))
	if ack := c.want(packets.Suback); ack.PacketID != 3 || string(ack.ReasonCodes) != "\x80\x80" {
		t.Errorf("SUBACK %d with codes %x", ack.PacketID, ack.ReasonCodes)
	}
	c.wantNothing()
	c.publish(4, "test/topic", "21.5")
	s.receive("test/topic", "21.5")
	join(t, b, "test-late", true).subscribe(1, "test/topic") // nothing is retained
	s.wantNothing()
	d := dial(t, b)
	d.send(hello("laptop", true))
	d.wantClosed()
}

func TestLimits(t *testing.T) {
	b := open(t, nil)
	nine := make([]string, awsiot.SubscribeFilters+1)
	for i := range nine {
		nine[i] = "f/" + strconv.Itoa(i)
	}
	full := strings.Repeat("x", awsiot.PayloadMax)
	for name, pk := range map[string]packets.Packet{
		"payload":             publication(1, "a", full+"x"),
		"payload, at QoS 0":   publication(0, "a", full+"x"),
		"payload, by far":     publication(1, "a", full+full),
		"topic":               publication(1, strings.Repeat("t", awsiot.TopicMax+1), "x"),
		"slashes":             publication(1, "1/2/3/4/5/6/7/8/9", "x"),
		"wildcard in a topic": publication(1, "a/+", "x"),
		"filters at once":     subscription(1, nine...),
		"filter":              subscription(1, strings.Repeat("t", awsiot.TopicMax+1)),
		"filter with slashes": subscription(1, "1/2/3/4/5/6/7/8/#"),
		"not a filter":        subscription(1, "a/#/b"),
		"second CONNECT":      hello("thing-1", true),
	} {
		t.Run(name, func(t *testing.T) {
			c := join(t, b, "thing-1", true)
			c.send(pk)
			c.wantClosed()
		})
	}
	for name, id := range map[string]string{"long": strings.Repeat("c", awsiot.ClientIDMax+1), "reserved": "$x"} {
		t.Run("client id "+name, func(t *testing.T) {
			c := dial(t, b)
			c.send(hello(id, true))
			c.wantClosed()
		})
	}
	t.Run("within", func(t *testing.T) {
		c := join(t, b, strings.Repeat("c", awsiot.ClientIDMax), true)
		c.subscribe(1, nine[:awsiot.SubscribeFilters]...)
		c.subscribe(2, "1/2/3/4/5/6/7/8")
		c.send(publication(3, "1/2/3/4/5/6/7/8", full))
		c.want(packets.Puback)
		c.receive("1/2/3/4/5/6/7/8", full)
	})
}

func TestTooManySubscriptions(t *testing.T) {
	b := open(t, nil)
	c := join(t, b, "thing-1", true)
	for i := range awsiot.Subscriptions {
		c.subscribe(uint16(i+1), "f/"+strconv.Itoa(i))
	}
	c.subscribe(90, "f/0", "f/1") // those it has do not count again
	c.send(subscription(91, "f/more"))
	c.wantClosed()
}

// Nothing comes back for QoS 2, and the connection lives on.
func TestQoS2IsNotAnswered(t *testing.T) {
	b := open(t, nil)
	c := join(t, b, "thing-1", true)
	c.subscribe(1, "a")
	two := publication(2, "a", "x")
	two.FixedHeader.Qos = 2
	c.send(two)
	c.wantNothing()
	filters := subscription(3, "b", "c")
	filters.Filters[1].Qos = 2
	c.send(filters)
	c.wantNothing()
	c.publish(4, "b", "x") // not subscribed to
	c.wantNothing()
}

func TestTakeover(t *testing.T) {
	b := open(t, nil)
	first := join(t, b, "thing-1", false)
	first.subscribe(1, "a")
	second := resume(t, b, "thing-1", true)
	first.wantClosed()
	second.publish(1, "a", "x")
	second.receive("a", "x")
}

// A connection that ends while the next one with its client id begins must not take the next
// one's place with it.
func TestTakeoverOfAnEndingConnection(t *testing.T) {
	b := open(t, nil)
	for range 100 {
		first := join(t, b, "thing-1", true)
		next := dial(t, b)
		var closing sync.WaitGroup
		closing.Go(func() { _ = first.conn.Close() })
		next.send(hello("thing-1", true))
		next.want(packets.Connack)
		closing.Wait()
		next.subscribe(1, "a")
		next.publish(2, "a", "x")
		next.receive("a", "x")
		third := join(t, b, "thing-1", true)
		next.wantClosed()
		_ = third.conn.Close()
	}
}

// Not acknowledged, a message comes again in the next connection; its packet id
// is no obstacle to a SUBSCRIBE or PUBLISH of the client with the same id.
func TestRedelivery(t *testing.T) {
	b := open(t, nil)
	s := join(t, b, "thing-1", false)
	s.subscribe(1, "order")
	p := join(t, b, "test-pub", true)
	p.publish(1, "order", "on")
	p.publish(2, "order", "off")
	if pk := s.want(packets.Publish); string(pk.Payload) != "on" {
		t.Fatalf("got %q", pk.Payload)
	}
	if err := s.conn.Close(); err != nil {
		t.Fatal(err)
	}
	s = resume(t, b, "thing-1", true)
	ids := map[string]uint16{}
	for range 2 {
		pk := s.want(packets.Publish)
		ids[string(pk.Payload)] = pk.PacketID
	}
	s.subscribe(ids["on"], "order")
	s.publish(ids["off"], "elsewhere", "x")
	s.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: ids["on"]})
	s.wantNothing()
	if err := s.conn.Close(); err != nil {
		t.Fatal(err)
	}
	s = resume(t, b, "thing-1", true)
	s.receive("order", "off")
	s.wantNothing()
}

// A PUBACK that could not be sent is not sent in the next connection, where it
// would acknowledge another message; and its message was not taken.
func TestUnsentPubackIsForgotten(t *testing.T) {
	log, _ := recorder()
	o := Options{Log: log}
	o.fill()
	server, _, err := newServer(o, newRegistry(nil, o.Policy))
	if err != nil {
		t.Fatal(err)
	}
	c, ended := pipe(t, server)
	c.send(hello("thing-1", false))
	c.want(packets.Connack)
	c.subscribe(1, "a")
	c.send(publication(2, "a", "unanswered")) // the pipe has no buffer: the PUBACK waits for us
	_ = c.conn.Close()
	<-ended
	c, ended = pipe(t, server)
	c.send(hello("thing-1", false))
	if ack := c.want(packets.Connack); !ack.SessionPresent {
		t.Error("the session is lost")
	}
	c.wantNothing()
	_ = c.conn.Close()
	<-ended
}

func TestUnsubscribe(t *testing.T) {
	b := open(t, nil)
	c := join(t, b, "thing-1", true)
	c.subscribe(1, "a")
	gone := subscription(2, "a")
	gone.FixedHeader.Type = packets.Unsubscribe
	c.send(gone)
	if ack := c.want(packets.Unsuback); ack.PacketID != 2 {
		t.Errorf("UNSUBACK for %d", ack.PacketID)
	}
	c.publish(3, "a", "x")
	c.wantNothing()
}

// iot:Receive is asked for each delivery, and never for a subscription.
func TestReceive(t *testing.T) {
	b := open(t, policy(t, `{"Effect":"Allow","Action":["iot:Connect","iot:Publish","iot:Subscribe"],"Resource":"*"},
		{"Effect":"Allow","Action":"iot:Receive","Resource":"arn:aws:iot:*:*:topic/a/${iot:ClientId}"}`))
	c := join(t, b, "thing-1", false)
	c.subscribe(1, "a/+", "a/secret")
	c.publish(2, "a/secret", "x")
	c.publish(3, "a/thing-2", "x")
	c.publish(4, "a/thing-1", "mine")
	c.receive("a/thing-1", "mine")
	c.wantNothing()
}

func TestRetained(t *testing.T) {
	b := open(t, nil)
	p := join(t, b, "test-pub", true)
	p.send(retained(publication(1, "a", "kept")))
	p.want(packets.Puback)
	s := join(t, b, "thing-1", true)
	s.subscribe(1, "a")
	if pk := s.receive("a", "kept"); !pk.FixedHeader.Retain {
		t.Error("a retained message came without its flag")
	}
}

// A will is published for a client that is lost, not for one that says goodbye,
// and only where it might have been published.
func TestWill(t *testing.T) {
	for name, tc := range map[string]struct {
		policy string
		topic  string
		retain bool
		leave  func(c *client)
		want   bool
	}{
		"lost":       {`"iot:Publish"`, "a", false, func(c *client) { _ = c.conn.Close() }, true},
		"goodbye":    {`"iot:Publish"`, "a", false, goodbye, false},
		"denied":     {`"iot:Receive"`, "a", false, func(c *client) { _ = c.conn.Close() }, false},
		"retained":   {`"iot:Publish"`, "a", true, func(c *client) { _ = c.conn.Close() }, false},
		"long topic": {`"iot:Publish"`, "1/2/3/4/5/6/7/8/9", false, func(c *client) { _ = c.conn.Close() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t, policy(t, `{"Effect":"Allow","Action":["iot:Connect","iot:Subscribe","iot:Receive"],"Resource":"*"},
				{"Effect":"Allow","Action":`+tc.policy+`,"Resource":"*"}`))
			s := join(t, b, "test-sub", false)
			s.subscribe(1, "#")
			pk := hello("thing-1", false)
			pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload, pk.Connect.WillRetain = true, tc.topic, []byte("gone"), tc.retain
			pk.Connect.WillQos = 1
			c := dial(t, b)
			c.send(pk)
			c.want(packets.Connack)
			tc.leave(c)
			// The same client id again is let in when the first is gone.
			resume(t, b, "thing-1", true)
			if tc.want {
				s.receive("a", "gone")
			}
			s.wantNothing()
		})
	}
}

func goodbye(c *client) {
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
	c.wantClosed()
}

func TestKeepAlive(t *testing.T) {
	for asked, want := range map[uint16]uint16{0: 1200, 1: 30, 29: 30, 30: 30, 31: 31, 1200: 1200, 1201: 1200, 65535: 1200} {
		if got := held(asked); got != want {
			t.Errorf("%d s is held to %d, want %d", asked, got, want)
		}
	}
}

// pipe connects a client without TLS, inside a bubble of synthetic time.
func pipe(t *testing.T, r interface {
	EstablishConnection(string, net.Conn) error
}) (c *client, ended chan error) {
	near, far := net.Pipe()
	ended = make(chan error, 1)
	go func() { ended <- r.EstablishConnection("pipe", far) }()
	return speak(t, near), ended
}

func TestSilenceEndsAtOneAndAHalfKeepAlives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, records := recorder()
		o := Options{Log: log}
		o.fill()
		server, _, err := newServer(o, newRegistry(nil, o.Policy))
		if err != nil {
			t.Fatal(err)
		}
		c, ended := pipe(t, server)
		if err := c.conn.SetDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		pk := hello("thing-1", true)
		pk.Connect.Keepalive = 5 // held to 30
		c.send(pk)
		c.want(packets.Connack)
		begun := time.Now()
		c.wantClosed()
		if err := <-ended; err == nil {
			t.Error("ended without an error")
		}
		if took := time.Since(begun); took != 45*time.Second {
			t.Errorf("ended after %v, want 45s", took)
		}
		if got := records.String(); !strings.Contains(got, `"client connected" client=thing-1`) || !strings.Contains(got, "i/o timeout") {
			t.Errorf("log:\n%s", got)
		}
	})
}

func TestSessionExpires(t *testing.T) {
	for away, present := range map[time.Duration]bool{awsiot.SessionExpiry: true, awsiot.SessionExpiry + 2*time.Second: false} {
		synctest.Test(t, func(t *testing.T) {
			log, _ := recorder()
			o := Options{Log: log}
			o.fill()
			server, _, err := newServer(o, newRegistry(nil, o.Policy))
			if err != nil {
				t.Fatal(err)
			}
			c, ended := pipe(t, server)
			c.send(hello("thing-1", false))
			c.want(packets.Connack)
			c.subscribe(1, "a")
			_ = c.conn.Close()
			<-ended
			<-time.After(away)

			c, ended = pipe(t, server)
			c.send(hello("thing-1", false))
			if ack := c.want(packets.Connack); ack.SessionPresent != present {
				t.Errorf("after %v: session present %v, want %v", away, ack.SessionPresent, present)
			}
			c.send(publication(1, "a", "x"))
			c.want(packets.Puback)
			if present {
				c.receive("a", "x")
			}
			c.wantNothing()
			_ = c.conn.Close()
			<-ended
		})
	}
}
