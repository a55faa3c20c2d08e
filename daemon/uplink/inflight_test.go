package uplink

import (
	"fieldpost/daemon/health"
	"fieldpost/daemon/wake"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// slowly simulates a connection with a rate in bytes per second and a round-trip time. It
// calls see for each message when it arrives, and acknowledges it a round trip later. It
// returns when nothing has come for a second and everything has arrived.
func slowly(p *peer, bytes int, trip time.Duration, see func(*packets.PublishPacket)) {
	free := time.Now()
	for {
		cp, err := p.readFor(time.Second)
		if err != nil {
			<-time.After(time.Until(free) + trip + time.Second)
			return
		}
		m, ok := cp.(*packets.PublishPacket)
		if !ok {
			continue
		}
		if free.Before(time.Now()) {
			free = time.Now()
		}
		free = free.Add(time.Duration(len(m.Payload)+len(m.TopicName)+packetOverhead) * time.Second / time.Duration(bytes))
		time.AfterFunc(time.Until(free), func() { see(m) })
		ack := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
		ack.MessageID = m.MessageID
		time.AfterFunc(time.Until(free.Add(trip)), func() { _ = ack.Write(p.conn) }) // the connection may be closed at the end
	}
}

// A message that is put during a backlog of batches on a slow connection waits only for
// what the connection sends in some two seconds, not for a full window. And the
// connection is never idle.
func TestLittleIsUnderWayOnASlowLink(t *testing.T) {
	const (
		speed = 8 << 10
		trip  = 200 * time.Millisecond
		size  = 2200
		n     = 120
	)
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		for range n {
			l.queue.Publish("batch", make([]byte, size))
		}
		p := b.accept(false)
		began, waited := time.Now(), time.Duration(0)
		var last time.Time
		var put []time.Time
		var mu sync.Mutex // the timers run on other goroutines
		for k := range 10 {
			time.AfterFunc(time.Duration(k+1)*2500*time.Millisecond, func() {
				mu.Lock()
				put = append(put, time.Now())
				mu.Unlock()
				l.queue.first("answer", []byte("1"))
			})
		}
		slowly(p, speed, trip, func(m *packets.PublishPacket) {
			mu.Lock()
			defer mu.Unlock()
			last = time.Now()
			if m.TopicName == "answer" {
				waited = max(waited, time.Since(put[0]))
				put = put[1:]
			}
		})
		mu.Lock()
		took := last.Sub(began)
		mu.Unlock()
		full := time.Duration(n*(size+5+packetOverhead)) * time.Second / speed
		t.Logf("an answer took %v at most; the backlog took %v, at full speed %v", waited, took, full)
		if len(put) != 0 || waited == 0 || waited > 2500*time.Millisecond || took > full*21/20 {
			t.Errorf("an answer took %v at most, %d did not come; the backlog took %v, at full speed %v", waited, len(put), took, full)
		}
		l.end(t, p)
		<-time.After(time.Minute)
	})
}

// A fast connection with a long round trip is used completely after a while.
func TestMuchIsUnderWayOnALongLink(t *testing.T) {
	const (
		speed = 1 << 20
		trip  = 600 * time.Millisecond
		size  = 16 << 10
		n     = 600
	)
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := b.config()
		c.Window = 64
		l := run(t, c)
		for range n {
			l.queue.Publish("batch", make([]byte, size))
		}
		p := b.accept(false)
		began, last := time.Now(), time.Now()
		var mu sync.Mutex
		slowly(p, speed, trip, func(*packets.PublishPacket) {
			mu.Lock()
			defer mu.Unlock()
			last = time.Now()
		})
		mu.Lock()
		took := last.Sub(began)
		mu.Unlock()
		t.Logf("%.0f %% of the speed", 100*n*size/took.Seconds()/speed)
		if got := n * size / took.Seconds(); got < 0.6*speed {
			t.Errorf("%.0f bytes a second", got)
		}
		l.end(t, p)
		<-time.After(time.Minute)
	})
}

// first adds a message before those that Next has not returned.
func (q *Queue) first(topic string, payload []byte) {
	q.mu.Lock()
	q.last++
	m := queued{Publication{ID: q.last, Topic: topic, Payload: payload}, make(chan error, 1)}
	q.queued = append(q.queued[:q.unsent:q.unsent], append([]queued{m}, q.queued[q.unsent:]...)...)
	q.mu.Unlock()
	q.ready.Set()
}

func TestWindowBoundsWhatIsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		for i := range 40 {
			l.queue.Publish("t", []byte(strconv.Itoa(i)))
		}
		p := b.accept(false)
		var ids []uint16
		for i := range 32 {
			ids = append(ids, p.delivery("t", strconv.Itoa(i)))
		}
		p.quiet(10 * time.Second)
		p.puback(ids[0])
		p.delivery("t", "32")
		p.quiet(10 * time.Second)
		l.end(t, p)
	})
}

// If a PUBACK does not come, the link reconnects and sends the message again, which
// counts only when it is acknowledged.
func TestWithheldPuback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		sent := l.queue.Publish("t", []byte("1"))
		p := b.accept(false)
		p.delivery("t", "1")
		began := time.Now()
		p.gone()
		if d := time.Since(began); d < 30*time.Second || d > 33*time.Second {
			t.Errorf("gave up after %v", d)
		}
		synctest.Wait()
		if l.code() != string(health.NoAcknowledgement) {
			t.Errorf("status: %v", l.Status().Err)
		}
		p = b.accept(true)
		id := p.delivery("t", "1")
		synctest.Wait()
		if got := settled(sent); got != "" || l.Status().Published != 0 {
			t.Fatalf("without a PUBACK the message is %q, %d acknowledged", got, l.Status().Published)
		}
		p.puback(id)
		synctest.Wait()
		if got := settled(sent); got != "acknowledged" {
			t.Errorf("message is %q", got)
		}
		l.end(t, p)
	})
}

// A broker that sends PUBACKs without end does not fill the memory.
func TestPubacksWithoutEnd(t *testing.T) {
	a := pubacks{ready: wake.New()}
	for i := range 2 * maxPubacks {
		if ok := a.add(uint16(i)); ok != (i < maxPubacks) {
			t.Fatalf("PUBACK %d is taken: %v", i, ok)
		}
	}
	a.takeEach(func(uint16, time.Time) {})
	if !a.add(1) {
		t.Error("no room for more afterwards")
	}
}
