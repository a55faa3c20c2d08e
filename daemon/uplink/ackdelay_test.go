package uplink

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// urgentQueue is a queue of messages whose senders wait for the PUBACK.
type urgentQueue struct{ *Queue }

func (q urgentQueue) Next() (Publication, bool) {
	m, ok := q.Queue.Next()
	m.Urgent = true
	return m, ok
}

// toldOf publishes one message for each pause, and acknowledges each that long after the
// one before; 0 means never. It returns the total number of acknowledgements that the
// outbox was told of, by the time since publishing, over ten seconds.
func toldOf(t *testing.T, change func(*Config), pauses ...time.Duration) (told map[time.Duration]uint64) {
	t.Helper()
	b := newBroker(t)
	cfg := b.config()
	cfg.AckDelay = 200 * time.Millisecond
	told = map[time.Duration]uint64{}
	var began time.Time
	var last uint64
	cfg.Observe = func(s Status) {
		if s.Published > last {
			last = s.Published
			told[time.Since(began)] = last
		}
	}
	q := NewQueue()
	cfg.Outbox = q
	change(&cfg)
	for range pauses {
		q.Publish("t", []byte("m"))
	}
	l := run(t, cfg)
	p := b.accept(true)
	var ids []uint16
	for range min(len(pauses), l.cfg.Window) {
		ids = append(ids, p.delivery("t", "m"))
	}
	began = time.Now()
	for i, pause := range pauses {
		if pause == 0 {
			continue
		}
		<-time.After(pause)
		p.puback(ids[i])
		if i+l.cfg.Window < len(pauses) {
			ids = append(ids, p.delivery("t", "m"))
		}
	}
	<-time.After(10 * time.Second)
	l.end(t, p)
	return told
}

// PUBACKs that nobody waits for wake the link once, when the last of them has come.
func TestAcksAreToldTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := toldOf(t, func(*Config) {}, time.Millisecond, time.Millisecond, time.Millisecond, time.Millisecond, time.Millisecond)
		if len(told) != 1 || told[5*time.Millisecond] != 5 {
			t.Errorf("told %v", told)
		}
	})
}

// A missing PUBACK delays the others only for the configured delay.
func TestMissingAckDelaysOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := toldOf(t, func(*Config) {}, time.Millisecond, time.Millisecond, 0, 0)
		if len(told) != 1 || told[200*time.Millisecond] != 2 {
			t.Errorf("told %v", told)
		}
	})
}

// If somebody waits (for an urgent message, for room in the window, or by the
// configuration), each PUBACK is reported at once.
func TestAcksThatAreWaitedFor(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"urgent":   func(c *Config) { c.Outbox = urgentQueue{c.Outbox.(*Queue)} },
		"full":     func(c *Config) { c.Window = 1 },
		"no delay": func(c *Config) { c.AckDelay = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				told := toldOf(t, change, time.Millisecond, time.Millisecond, time.Millisecond)
				if len(told) != 3 || told[time.Millisecond] != 1 || told[2*time.Millisecond] != 2 || told[3*time.Millisecond] != 3 {
					t.Errorf("told %v", told)
				}
			})
		})
	}
}

// A stop does not wait for the delay, only for the last PUBACK.
func TestStopAwaitsEachAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		cfg := b.config()
		cfg.AckDelay = 200 * time.Millisecond
		l := run(t, cfg)
		for range 3 {
			l.queue.Publish("t", []byte("m"))
		}
		p := b.accept(true)
		ids := []uint16{p.delivery("t", "m"), p.delivery("t", "m"), p.delivery("t", "m")}
		began := time.Now()
		l.cancel()
		for _, id := range ids {
			p.puback(id)
		}
		expect[*packets.DisconnectPacket](p)
		if d := time.Since(began); d != 0 {
			t.Errorf("ended after %v", d)
		}
	})
}
