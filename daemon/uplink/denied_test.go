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

func TestSubscriptionRefusedBySuback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, orders(b))
		sent := l.queue.Put("readings", []byte("1"))
		p := b.accept(false)
		p.grant("orders", 0x80)
		p.puback(p.delivery("readings", "1")) // readings flow on
		synctest.Wait()
		if st := l.Status(); !st.Connected || !slices.Equal(st.Denied, []string{"orders"}) || settled(sent) != "acknowledged" {
			t.Errorf("status: %+v", st)
		}
		began := time.Now()
		p.grant("orders", 1) // on the same connection
		if d := time.Since(began); d < 59*time.Minute || d > 61*time.Minute {
			t.Errorf("tried again after %v", d)
		}
		synctest.Wait()
		if st := l.Status(); !st.Connected || st.Denied != nil {
			t.Errorf("status: %+v", st)
		}
		l.queue.Put("readings", []byte("2"))
		p.delivery("readings", "2")
		l.end(t, p)
	})
}

// AWS IoT Core answers a SUBSCRIBE that its policy denies by hanging up.
func TestSubscriptionRefusedByHangingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := b.config()
		c.Subscriptions = []Subscription{{"good", 1}, {"bad", 1}, {"late", 1}}
		l := run(t, c)
		deny := func() {
			p := b.accept(true)
			p.grant("good", 1)
			expect[*packets.SubscribePacket](p)
			p.hangUp()
			synctest.Wait()
			if e := l.Status().Err; l.code() != string(health.SubscribeDenied) || !strings.Contains(e.Error(), `"bad"`) {
				t.Errorf("status: %v", e)
			}
		}
		deny()
		deny()
		p := b.accept(true)
		p.grant("good", 1)
		p.grant("late", 1)
		l.queue.Put("readings", []byte("1"))
		p.puback(p.delivery("readings", "1"))
		synctest.Wait()
		if st := l.Status(); !st.Connected || st.Err != nil || !slices.Equal(st.Denied, []string{"bad"}) {
			t.Errorf("status: %+v", st)
		}
		// An hour later it is tried on the standing connection; one more hang-up
		// leaves it out again.
		expect[*packets.SubscribePacket](p)
		p.hangUp()
		p = b.accept(true)
		p.grant("good", 1)
		p.grant("late", 1)
		p.quiet(30 * time.Minute)
		if st := l.Status(); !st.Connected || !slices.Equal(st.Denied, []string{"bad"}) {
			t.Errorf("status: %+v", st)
		}
		l.end(t, p)
	})
}

// deliverUntilDenied plays a broker that hangs up on every publish to "bad"
// and acknowledges the rest, until all of the good ones have come. It gives
// the connection on which the last one did.
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
			bad = append(bad, l.queue.Put("bad", []byte("b")))
			good = append(good, l.queue.Put("good", []byte("g")))
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
		// What is put now flows, or waits, without a hang-up.
		more := l.queue.Put("bad", []byte("b"))
		l.queue.Put("good", []byte("g"))
		p.puback(p.delivery("good", "g"))
		began := time.Now()
		// An hour later it is tried again, alone; now the policy is mended.
		for i := range 6 {
			id := p.delivery("bad", "b")
			if d := time.Since(began); i == 0 && (d < 50*time.Minute || d > 61*time.Minute) {
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
		l := run(t, b.config())
		sent := l.queue.Put("bad", []byte("b"))
		for range 2 {
			p := b.accept(true)
			p.delivery("bad", "b")
			p.hangUp()
		}
		p := b.accept(true)
		p.quiet(55 * time.Minute)
		p.delivery("bad", "b")
		p.hangUp() // once more is enough
		p = b.accept(true)
		p.quiet(55 * time.Minute)
		if l.code() != string(health.PublishDenied) || settled(sent) != "" {
			t.Errorf("status: %v", l.Status().Err)
		}
		l.end(t, p)
	})
}

// Hang-ups with messages in flight that the broker does acknowledge next time
// deny nothing.
func TestRestartingBrokerDeniesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		for range 10 {
			l.queue.Put("t", []byte("1"))
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

// lone is one message in flight.
func lone(topic string, id uint64) []flight { return []flight{{topic: topic, id: id}} }

func TestTopicsAreTriedAlone(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	d := newTopics()
	two := []flight{{topic: "a", id: 1}, {topic: "b", id: 2}}
	d.hungUp(two, now)
	if d.window(16) != 16 {
		t.Error("alone after one hang-up")
	}
	d.hungUp(two, now)
	if d.window(16) != 1 {
		t.Error("not alone after two")
	}
	for i := range uint64(aloneFor) {
		d.acked("c", 100+i, now)
	}
	if d.window(16) != 16 {
		t.Error("alone for ever")
	}
	d.hungUp(lone("a", 1), now)
	d.acked("a", 1, now)
	if v := d.hungUp(lone("a", 3), now); v != unclear {
		t.Errorf("verdict %v in spite of an acknowledgement", v)
	}
	if v := d.hungUp(lone("a", 3), now); v != denied || !d.held("a") || d.held("b") {
		t.Errorf("verdict %v", v)
	}
	if d.due(now.Add(59*time.Minute)) || !d.due(now.Add(time.Hour)) {
		t.Error("due at the wrong time")
	}
	if v := d.hungUp(nil, now); v != unclear {
		t.Errorf("nothing in flight, but the verdict is %v", v)
	}
}

// A step is a lone message's fate, and what follows from it.
type step struct {
	id    uint64
	acked bool
	want  verdict
}

func TestVerdicts(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, steps := range map[string][]step{
		"denied":                                   {{1, false, unclear}, {1, false, denied}, {2, false, confirmed}},
		"denied, another first":                    {{1, false, unclear}, {2, false, denied}, {1, false, confirmed}},
		"poison":                                   {{1, false, unclear}, {1, false, denied}, {2, true, unclear}, {1, false, poison}},
		"poison, others taken all along":           {{1, false, unclear}, {2, true, unclear}, {1, false, unclear}, {3, true, unclear}, {1, false, poison}},
		"poison, others taken only before":         {{2, true, unclear}, {3, true, unclear}, {1, false, unclear}, {1, false, denied}},
		"innocent: taken at last":                  {{1, false, unclear}, {1, false, denied}, {2, true, unclear}, {1, true, unclear}, {3, false, unclear}, {3, false, denied}},
		"two messages, each once":                  {{1, false, unclear}, {9, true, unclear}, {2, false, unclear}, {9, true, unclear}, {1, false, unclear}, {9, true, unclear}, {2, false, unclear}},
		"one after the other":                      {{1, false, unclear}, {1, false, denied}, {2, true, unclear}, {1, false, poison}, {2, false, unclear}, {2, false, denied}},
		"denied again after others had been taken": {{1, false, unclear}, {1, false, denied}, {2, true, unclear}, {3, false, denied}, {1, false, confirmed}},
	} {
		t.Run(name, func(t *testing.T) {
			d := newTopics()
			for i, s := range steps {
				if d.due(now) {
					d.release(now)
				}
				if d.held("t") && !d.trial("t", s.id) {
					t.Fatalf("step %d: message %d would not be sent", i, s.id)
				}
				got := unclear
				if s.acked {
					d.acked("t", s.id, now)
				} else {
					got = d.hungUp(lone("t", s.id), now)
				}
				if got != s.want {
					t.Fatalf("step %d: verdict %v, want %v", i, got, s.want)
				}
			}
		})
	}
}
