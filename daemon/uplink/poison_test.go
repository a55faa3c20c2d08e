package uplink

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"fieldpost/daemon/health"
)

// picky simulates a broker that hangs up on bad messages and accepts all others, until
// nothing has come for a while. It returns the open connection and the number of
// hang-ups.
func picky(b *broker, while time.Duration, bad func(m *packets.PublishPacket) bool) (p *peer, hangUps int) {
	b.t.Helper()
	for range 40 {
		p = b.accept(true)
		for {
			cp, err := p.readFor(while)
			if err != nil {
				return p, hangUps
			}
			m := cp.(*packets.PublishPacket)
			if bad(m) {
				break
			}
			p.puback(m.MessageID)
		}
		p.hangUp()
		hangUps++
	}
	b.t.Fatalf("%d hang-ups, and no end", hangUps)
	return nil, 0
}

// says matches messages by their payload.
func says(payload string) func(*packets.PublishPacket) bool {
	return func(m *packets.PublishPacket) bool { return string(m.Payload) == payload }
}

// One message on which the broker hangs up does not block the others.
func TestPoisonIsSetAside(t *testing.T) {
	for _, at := range []int{0, 5, 49} {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t)
				c := b.config()
				c.KeepAlive = 7 * time.Hour // an unread ping would make a reset of a hang-up
				l := run(t, c)
				var sent []<-chan error
				for i := range 50 {
					sent = append(sent, l.queue.Publish("t", fmt.Appendf(nil, "%d.", i)))
				}
				bad := fmt.Sprintf("%d.", at)
				p, hangUps := picky(b, 30*time.Second, says(bad))
				if at == 49 { // no later message could tell poison from denial
					if l.code() != string(health.PublishDenied) || settled(sent[at]) != "" {
						t.Errorf("alone it is %v", l.Status().Err)
					}
					sent = append(sent, l.queue.Publish("t", []byte("next")))
					p.puback(p.delivery("t", "next"))
					p.delivery("t", bad)
					p.hangUp()
					p = b.accept(true)
					p.quiet(time.Minute)
				}
				for i, ch := range sent {
					got := settled(ch)
					if i == at && !strings.HasPrefix(got, "cannot be sent: refused") || i != at && got != "acknowledged" {
						t.Errorf("message %d is %q", i, got)
					}
				}
				if st := l.Status(); !st.Connected || st.Err != nil || hangUps > 6 {
					t.Errorf("after %d hang-ups: %+v", hangUps, st)
				}
				l.end(t, p)
			})
		})
	}
}

// The message that tells poison from denial is sent alone, so that a hang-up can only be
// its fault.
func TestTrialGoesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		bad := l.queue.Publish("t", []byte("bad"))
		for range 3 {
			p := b.accept(true)
			p.delivery("t", "bad")
			p.hangUp()
		}
		p := b.accept(true)
		l.queue.Publish("other", []byte("1"))
		before := p.delivery("other", "1")
		l.queue.Publish("t", []byte("good"))
		l.queue.Publish("other", []byte("2"))
		p.quiet(5 * time.Second)
		p.puback(before)
		trial := p.delivery("t", "good")
		p.quiet(5 * time.Second)
		p.puback(trial)
		second := p.delivery("t", "bad") // its next turn
		p.quiet(5 * time.Second)
		p.puback(second)
		p.puback(p.delivery("other", "2"))
		synctest.Wait()
		if st := l.Status(); settled(bad) != "acknowledged" || st.Err != nil {
			t.Errorf("status: %+v", st)
		}
		l.end(t, p)
	})
}

// As with the daemon, each connection begins with another message, before the one on
// which the broker hangs up.
func TestPoisonBehindAGreeting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, greeting(b))
		box := l.cfg.Outbox.(*greeter)
		bad := box.Publish("t", []byte("poison"))
		good := box.Publish("t", []byte("good"))
		p, _ := picky(b, time.Minute, says("poison"))
		if got := settled(bad); !strings.HasPrefix(got, "cannot be sent: refused") || settled(good) != "acknowledged" {
			t.Errorf("message is %q", got)
		}
		l.end(t, p)
	})
}

// The same with a large backlog in flight when the broker hangs up, and with earlier
// messages that are acknowledged each time.
func TestPoisonInABacklogBehindAGreeting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, greeting(b))
		box := l.cfg.Outbox.(*greeter)
		var good []<-chan error
		bad := box.Publish("t", []byte("poison"))
		for i := range 60 {
			good = append(good, box.Publish("t", fmt.Append(nil, i)))
		}
		for range 40 {
			p := b.accept(true)
			var first *packets.PublishPacket
			for n := 0; first == nil; n++ { // lets some come, and then hangs up on one
				cp, err := p.readFor(2 * time.Second)
				if err != nil {
					break
				}
				if m := cp.(*packets.PublishPacket); says("poison")(m) {
					first = m
				} else {
					p.puback(m.MessageID)
				}
			}
			if first == nil {
				l.end(t, p)
				if got := settled(bad); !strings.HasPrefix(got, "cannot be sent: refused") {
					t.Errorf("the bad one is %q", got)
				}
				for i, ch := range good {
					if got := settled(ch); got != "acknowledged" {
						t.Errorf("message %d is %q", i, got)
					}
				}
				return
			}
			synctest.Wait() // the rest of the window is in flight
			must(t, p.conn.CloseWrite())
			for err := error(nil); err == nil; {
				_, err = p.read()
			}
			p.hangUp()
		}
		t.Fatal("no end of it")
	})
}

// No message is set aside if the broker accepts none on the topic, however long that
// lasts.
func TestDenialSetsNothingAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, greeting(b))
		box := l.cfg.Outbox.(*greeter)
		var sent []<-chan error
		for range 20 {
			sent = append(sent, box.Publish("t", []byte("x")))
		}
		fine := box.Publish("other", []byte("fine"))
		allowed := time.Now().Add(5 * time.Hour)
		p, hangUps := picky(b, 2*time.Hour, func(m *packets.PublishPacket) bool {
			return m.TopicName == "t" && time.Now().Before(allowed)
		})
		if st := l.Status(); settled(fine) != "acknowledged" || hangUps > 5+2*10 || !st.Connected || st.Err != nil {
			t.Errorf("after %d hang-ups in five hours the other topic's is %q, the status %+v", hangUps, settled(fine), st)
		}
		for i, ch := range sent {
			if got := settled(ch); got != "acknowledged" {
				t.Errorf("message %d is %q", i, got)
			}
		}
		l.end(t, p)
	})
}

// greeter is a queue that begins every connection with a message of its own.
type greeter struct {
	*Queue
	mu    sync.Mutex
	hello *Publication
	n     uint64
}

func greeting(b *broker) Config {
	c := b.config()
	c.Outbox = &greeter{Queue: NewQueue()}
	return c
}

func (g *greeter) Rewind() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n++
	g.hello = &Publication{ID: 1<<40 + g.n, Topic: "t", Payload: []byte("hello")}
	g.Queue.Rewind()
}

func (g *greeter) Next() (Publication, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if m := g.hello; m != nil {
		g.hello = nil
		return *m, true
	}
	return g.Queue.Next()
}
