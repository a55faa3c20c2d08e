package uplink

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// slow is an outbox whose messages wait for some time before Next returns them.
type slow struct {
	*Queue
	wait  time.Duration
	since time.Time
	next  *Publication
	hurry bool
}

func (s *slow) Rewind() {
	s.next, s.hurry = nil, false
	s.Queue.Rewind()
}

func (s *slow) Next() (Publication, bool) {
	if s.next == nil {
		m, ok := s.Queue.Next()
		if !ok {
			return Publication{}, false
		}
		s.next, s.since = &m, time.Now()
	}
	if !s.hurry && time.Since(s.since) < s.wait {
		return Publication{}, false
	}
	m := *s.next
	s.next = nil
	return m, true
}

func (s *slow) Due() time.Time {
	if s.next == nil {
		return time.Time{}
	}
	return s.since.Add(s.wait)
}

func (s *slow) Flush() { s.hurry = true }

// A waiting message is sent exactly when it is due, without any other event, whether that
// is before or after the loop's next turn.
func TestPatientOutbox(t *testing.T) {
	for _, wait := range []time.Duration{0, 300 * time.Millisecond, 5500 * time.Millisecond, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(t)
			c := b.config()
			box := &slow{Queue: NewQueue(), wait: wait}
			c.Outbox = box
			l := run(t, c)
			p := b.accept(false)
			synctest.Wait()
			for range 3 {
				began := time.Now()
				box.Publish("t", []byte("1"))
				p.puback(p.delivery("t", "1"))
				if d := time.Since(began); d != wait {
					t.Errorf("came after %v, want %v", d, wait)
				}
			}
			l.end(t, p)
		})
	}
}

// A clean stop also sends messages that would have waited longer.
func TestPatientOutboxAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := b.config()
		box := &slow{Queue: NewQueue(), wait: time.Minute}
		c.Outbox = box
		l := run(t, c)
		p := b.accept(false)
		done := box.Publish("t", []byte("1"))
		p.quiet(time.Second)
		l.cancel()
		began := time.Now()
		p.puback(p.delivery("t", "1"))
		expect[*packets.DisconnectPacket](p)
		if d := time.Since(began); d != 0 {
			t.Errorf("came after %v", d)
		}
		l.end(t, p)
		if got := settled(done); got != "acknowledged" {
			t.Errorf("message is %q", got)
		}
	})
}
