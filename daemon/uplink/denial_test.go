package uplink

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"fieldpost/daemon/health"
)

func TestSubscriptionRefusedBySuback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, orders(b))
		sent := l.queue.Publish("readings", []byte("1"))
		p := b.accept(false)
		p.grant("orders", 0x80)
		p.puback(p.delivery("readings", "1")) // readings continue
		synctest.Wait()
		if st := l.Status(); !st.Connected || !slices.Equal(st.Denied, []string{"orders"}) || settled(sent) != "acknowledged" {
			t.Errorf("status: %+v", st)
		}
		began := time.Now()
		p.grant("orders", 1) // on the same connection
		if d := time.Since(began); d < 59*time.Second || d > 63*time.Second {
			t.Errorf("tried again after %v", d)
		}
		synctest.Wait()
		if st := l.Status(); !st.Connected || st.Denied != nil {
			t.Errorf("status: %+v", st)
		}
		l.queue.Publish("readings", []byte("2"))
		p.delivery("readings", "2")
		l.end(t, p)
	})
}

// AWS IoT Core closes the connection on a SUBSCRIBE that its policy denies.
func TestSubscriptionRefusedByHangingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := b.config()
		c.Subscriptions = []Subscription{{"good", 1}, {"bad", 1}, {"late", 1}}
		c.KeepAlive = 7 * time.Hour // an unread ping would make a reset of a hang-up
		l := run(t, c)
		for i := range 3 {
			p := b.accept(true)
			p.grant("good", 1)
			expect[*packets.SubscribePacket](p)
			p.hangUp()
			synctest.Wait()
			want := health.NetworkDown // so far
			if i == 2 {
				want = health.SubscribeDenied
			}
			checkSays(t, l.Status().Err.(*Explained), want, `"bad"`, "topicfilter/bad")
		}
		p := b.accept(true)
		p.grant("good", 1)
		p.grant("late", 1)
		l.queue.Publish("readings", []byte("1"))
		p.puback(p.delivery("readings", "1"))
		synctest.Wait()
		if st := l.Status(); !st.Connected || st.Err != nil || !slices.Equal(st.Denied, []string{"bad"}) {
			t.Errorf("status: %+v", st)
		}
		// A minute later it is retried on the present connection. One more hang-up leaves
		// it out again, for longer.
		for wait := time.Minute; wait < 3*time.Hour; wait *= 2 {
			began := time.Now()
			expect[*packets.SubscribePacket](p)
			if d, want := time.Since(began), min(wait, time.Hour); d > want+5*time.Second || d < want-5*time.Second {
				t.Errorf("tried again after %v, want %v", d, want)
			}
			p.hangUp()
			p = b.accept(true)
			p.grant("good", 1)
			p.grant("late", 1)
			synctest.Wait()
			if st := l.Status(); !st.Connected || !slices.Equal(st.Denied, []string{"bad"}) {
				t.Errorf("status: %+v", st)
			}
		}
		l.end(t, p)
	})
}

// deliverUntilDenied simulates a broker that hangs up on every publish to "bad" and
// acknowledges the others, until all good ones have come. It returns the connection of
// the last one.
func deliverUntilDenied(t *testing.T, b *broker, good int) *peer {
	t.Helper()
	for range 20 {
		p := b.accept(true)
		for {
			cp, err := p.read()
			if err != nil {
				break
			}
			m := cp.(*packets.PublishPacket)
			if m.TopicName == "bad" {
				p.hangUp()
				break
			}
			p.puback(m.MessageID)
			if good--; good == 0 {
				return p
			}
		}
	}
	t.Fatalf("%d good messages did not come", good)
	return nil
}

func TestPublishingDenied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		var good, bad []<-chan error
		for range 5 {
			bad = append(bad, l.queue.Publish("bad", []byte("b")))
			good = append(good, l.queue.Publish("good", []byte("g")))
		}
		p := deliverUntilDenied(t, b, len(good))
		synctest.Wait()
		for i := range good {
			if g, b := settled(good[i]), settled(bad[i]); g != "acknowledged" || b != "" {
				t.Errorf("message %d: good is %q, bad is %q", i, g, b)
			}
		}
		e, _ := l.Status().Err.(*Explained)
		if e == nil || e.Code != string(health.PublishDenied) || !strings.Contains(e.Error(), `"bad"`) || !l.Status().Connected {
			t.Errorf("status: %+v", l.Status())
		}
		// Messages put now are sent, or wait, without a hang-up.
		more := l.queue.Publish("bad", []byte("b"))
		l.queue.Publish("good", []byte("g"))
		p.puback(p.delivery("good", "g"))
		began := time.Now()
		// A minute later it is retried alone, and the policy allows it now.
		for i := range 6 {
			id := p.delivery("bad", "b")
			if d := time.Since(began); i == 0 && (d < 40*time.Second || d > 63*time.Second) {
				t.Errorf("tried again after %v", d)
			}
			p.quiet(time.Second)
			p.puback(id)
		}
		synctest.Wait()
		if got := settled(more); got != "acknowledged" || l.Status().Err != nil {
			t.Errorf("at last the message is %q, status %v", got, l.Status().Err)
		}
		l.end(t, p)
	})
}

func TestPublishingDeniedStaysDenied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := b.config()
		c.KeepAlive = 7 * time.Hour
		l := run(t, c)
		sent := l.queue.Publish("bad", []byte("b"))
		for range 3 {
			p := b.accept(true)
			p.delivery("bad", "b")
			p.hangUp()
		}
		p := b.accept(true)
		for wait := time.Minute; wait < 3*time.Hour; wait *= 2 {
			p.quiet(min(wait, time.Hour) - 5*time.Second)
			p.delivery("bad", "b")
			p.hangUp() // once is enough this time
			p = b.accept(true)
		}
		p.quiet(55 * time.Minute)
		if l.code() != string(health.PublishDenied) || settled(sent) != "" {
			t.Errorf("status: %v", l.Status().Err)
		}
		l.end(t, p)
	})
}

// Hang-ups with messages in flight that the broker acknowledges the next time are no
// denials.
func TestRestartingBrokerDeniesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		for range 10 {
			l.queue.Publish("t", []byte("1"))
			p := b.accept(true)
			p.delivery("t", "1")
			p.hangUp()
			p = b.accept(true)
			p.puback(p.delivery("t", "1"))
			synctest.Wait()
			if st := l.Status(); !st.Connected || st.Err != nil {
				t.Fatalf("status: %+v", st)
			}
			p.hangUp()
		}
		l.end(t, nil)
	})
}

// lone returns one message in flight.
func lone(topic string, id uint64) []inFlight { return []inFlight{{topic: topic, id: id}} }

func TestTopicsAreTriedAlone(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	d := newTopicDenials()
	two := []inFlight{{topic: "a", id: 1}, {topic: "b", id: 2}}
	d.hungUp(two, closedByPeer, now)
	if d.window(16) != 16 {
		t.Error("alone after one hang-up")
	}
	d.hungUp(two, resetByPeer, now)
	if d.window(16) != 1 {
		t.Error("not alone after two")
	}
	for i := range uint64(aloneFor) {
		d.acked("c", 100+i, now)
	}
	if d.window(16) != 16 {
		t.Error("alone for ever")
	}
	d.hungUp(lone("a", 1), closedByPeer, now)
	d.acked("a", 1, now)
	for range 2 {
		if v := d.hungUp(lone("a", 3), closedByPeer, now); v != unclear {
			t.Errorf("verdict %v in spite of an acknowledgement", v)
		}
	}
	if v := d.hungUp(lone("a", 3), closedByPeer, now); v != denied || !d.held("a") || d.held("b") {
		t.Errorf("verdict %v", v)
	}
	if d.due(now.Add(59*time.Second)) || !d.due(now.Add(time.Minute)) {
		t.Error("due at the wrong time")
	}
	if v := d.hungUp(nil, closedByPeer, now); v != unclear {
		t.Errorf("nothing in flight, but the verdict is %v", v)
	}
}

// step is the fate of a lone message, and the expected verdict.
type step struct {
	id    uint64
	fate  byte // a: acknowledged, h: connection closed in order, r: reset, n: network failure
	want  verdict
	times int // 0: once; all except the last are unclear
}

func TestVerdicts(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, steps := range map[string][]step{
		"denied":                                   {{1, 'h', denied, 3}, {2, 'h', stillDenied, 0}},
		"denied, another first":                    {{1, 'h', unclear, 2}, {2, 'h', denied, 0}, {1, 'h', stillDenied, 0}},
		"denied by resets":                         {{1, 'r', denied, 8}, {2, 'r', stillDenied, 0}},
		"resets and hang-ups mixed":                {{1, 'h', unclear, 2}, {1, 'r', unclear, 7}, {1, 'h', unclear, 2}, {1, 'r', unclear, 7}, {1, 'h', denied, 3}},
		"the network between":                      {{1, 'h', unclear, 2}, {1, 'n', unclear, 0}, {1, 'h', unclear, 2}, {1, 'n', unclear, 0}, {1, 'r', unclear, 7}, {1, 'n', unclear, 0}, {1, 'r', unclear, 7}},
		"denied, and the network at fault":         {{1, 'h', denied, 3}, {1, 'n', unclear, 0}, {1, 'h', denied, 0}},
		"a reset says nothing of the trial":        {{1, 'h', denied, 3}, {2, 'r', unclear, 0}, {2, 'h', stillDenied, 0}},
		"poison":                                   {{1, 'h', denied, 3}, {2, 'a', unclear, 0}, {1, 'h', poison, 0}},
		"poison by resets":                         {{1, 'r', denied, 8}, {2, 'a', unclear, 0}, {1, 'r', poison, 0}},
		"poison, others taken all along":           {{1, 'h', unclear, 0}, {2, 'a', unclear, 0}, {1, 'h', unclear, 0}, {3, 'a', unclear, 0}, {1, 'h', poison, 0}},
		"poison, others taken only before":         {{2, 'a', unclear, 0}, {3, 'a', unclear, 0}, {1, 'h', denied, 3}},
		"no poison, the network between":           {{1, 'h', unclear, 0}, {2, 'a', unclear, 0}, {1, 'h', unclear, 0}, {1, 'n', unclear, 0}, {3, 'a', unclear, 0}, {1, 'h', unclear, 0}, {1, 'a', unclear, 0}},
		"innocent: taken at last":                  {{1, 'h', denied, 3}, {2, 'a', unclear, 0}, {1, 'a', unclear, 0}, {3, 'h', denied, 3}},
		"two messages, each once":                  {{1, 'h', unclear, 0}, {9, 'a', unclear, 0}, {2, 'h', unclear, 0}, {9, 'a', unclear, 0}, {1, 'h', unclear, 0}, {9, 'a', unclear, 0}, {2, 'h', unclear, 0}},
		"one after the other":                      {{1, 'h', denied, 3}, {2, 'a', unclear, 0}, {1, 'h', poison, 0}, {2, 'h', denied, 3}},
		"denied again after others had been taken": {{1, 'h', denied, 3}, {2, 'a', unclear, 0}, {3, 'h', denied, 0}, {1, 'h', stillDenied, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			d := newTopicDenials()
			for i, s := range steps {
				for n := max(s.times, 1); n > 0; n-- {
					want := s.want
					if n > 1 {
						want = unclear
					}
					if got := s.happens(t, &d, now); got != want {
						t.Fatalf("step %d, %d to go: verdict %v, want %v", i, n-1, got, want)
					}
				}
			}
		})
	}
}

func (s step) happens(t *testing.T, d *topicDenials, now time.Time) verdict {
	t.Helper()
	d.release(now)
	switch {
	case s.fate == 'n':
		d.contradicted(now)
		return unclear
	case d.held("t") && !d.isTrial("t", s.id):
		t.Fatalf("message %d would not be sent", s.id)
	case s.fate == 'a':
		d.acked("t", s.id, now)
		return unclear
	case s.fate == 'r':
		return d.hungUp(lone("t", s.id), resetByPeer, now)
	}
	return d.hungUp(lone("t", s.id), closedByPeer, now)
}

// slowBacklog is an outbox with more messages of one topic than the link can ever skip.
type slowBacklog struct{ next uint64 }

func (o *slowBacklog) Rewind() { o.next = 0 }

func (o *slowBacklog) Next() (Publication, bool) {
	o.next++
	<-time.After(time.Millisecond)
	return Publication{ID: o.next, Topic: "t", Payload: []byte("x")}, true
}

func (o *slowBacklog) Ready() <-chan struct{} { return nil }
func (o *slowBacklog) Hold(uint64)            {}
func (o *slowBacklog) Ack(uint64)             {}
func (o *slowBacklog) Refuse(uint64, string)  {}

// While the link skips a long backlog of a held topic it still pings, notices that the broker
// has fallen silent, and makes another connection when it is asked to. Otherwise the broker
// would end the connection, and the next one would begin to skip from the start.
func TestLongBacklogOfAHeldTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := b.config()
		c.Outbox, c.Window = &slowBacklog{}, 1
		l := run(t, c)
		for range 4 { // the fourth is for the trial of another message
			p := b.accept(true)
			expect[*packets.PublishPacket](p)
			p.hangUp()
		}
		p := b.accept(true)
		asked := make(chan Status, 1)
		<-time.After(20 * time.Second)
		go func() {
			s, _ := l.Reconnect(context.Background()) // its context does not end
			asked <- s
		}()
		if cp, err := p.readFor(10 * time.Second); err != nil {
			t.Fatal(err)
		} else if _, ok := cp.(*packets.DisconnectPacket); !ok {
			t.Fatalf("got %v", cp)
		}
		p.hangUp()
		p = b.accept(true)
		<-asked
		for range 2 { // every held topic is tried again
			expect[*packets.PublishPacket](p)
			p.hangUp()
			p = b.accept(true)
		}
		began := time.Now()
		must(t, p.conn.SetReadDeadline(began.Add(45*time.Second)))
		if cp, err := packets.ReadPacket(p.conn); err != nil {
			t.Fatalf("no ping: %v", err)
		} else if _, ok := cp.(*packets.PingreqPacket); !ok {
			t.Fatalf("got %v", cp)
		}
		p.gone() // not answered
		l.end(t, nil)
	})
}
