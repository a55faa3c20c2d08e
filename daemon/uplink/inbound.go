package uplink

import (
	"sync"
	"time"
)

// Messages to us go past the protocol client: it keeps each of them in a store until
// it is acknowledged, and several more on their way through its goroutines. The
// guard reads a message straight into the memory that its receiver gets, or reads
// past it, so what a broker can have us hold is bounded here, in number and in
// bytes, whatever it sends.

const (
	// inboundRoom is how many messages may wait: AWS IoT Core has 100 in flight at
	// most, but mosquitto 2.0 that was restarted sends all that it has kept for a
	// session at once, 1000 where its max_queued_messages is not set.
	inboundRoom = 1280
	// inboundBytes is how many bytes of them may wait, with topics and what each costs
	// besides. One message has room however large it is.
	inboundBytes  = 4 << 20
	inboundHeader = 256
	// maxUnacked is how many messages at QoS 1 may be with their receiver, or wait,
	// unacknowledged.
	maxUnacked = inboundRoom
	// roomWait is how long reading waits for room, rather than end the connection:
	// then the broker sends again what was not acknowledged, and as much at once. It is
	// longer than one message that is not finished may hold up the acknowledgement of
	// others (5 s, package command), and shorter than a ping waits for its answer.
	roomWait  = 8 * time.Second
	roomEvery = 10 * time.Millisecond
	// headBytes is how much is kept of a message over the limit.
	headBytes = 1 << 10
	// defaultPayload is the limit unless Config has one: AWS IoT Core sends no payload
	// over 128 KiB; other brokers may send 256 MB.
	defaultPayload = 128 << 10
	// dropsEvery is how often dropped messages are logged at most.
	dropsEvery = time.Minute
)

// inbound is the messages that wait for their receiver.
type inbound struct {
	ch chan Message

	mu    sync.Mutex
	sizes []int // of those in ch, the oldest first, and of some taken before
	bytes int   // their sum
}

func newInbound() *inbound { return &inbound{ch: make(chan Message, inboundRoom)} }

// put adds a message if there is room. One goroutine at a time.
func (q *inbound) put(m Message) (ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.taken()
	size := len(m.Payload) + len(m.Topic) + inboundHeader
	if len(q.sizes) > 0 && q.bytes+size > inboundBytes {
		return false
	}
	select {
	case q.ch <- m:
		q.sizes, q.bytes = append(q.sizes, size), q.bytes+size
		return true
	default:
		return false
	}
}

// taken forgets the sizes of those that have been taken. With mu held.
func (q *inbound) taken() {
	n := len(q.sizes) - len(q.ch)
	for _, size := range q.sizes[:n] {
		q.bytes -= size
	}
	q.sizes = append(q.sizes[:0], q.sizes[n:]...)
}

// discard drops the messages of an ended connection that nobody has begun to
// handle: at QoS 1 the broker sends them again.
func (q *inbound) discard() {
	for range len(q.ch) {
		select {
		case m := <-q.ch:
			if m.QoS == 0 {
				q.put(m) // room was just made, and nobody else sends now
			}
		default:
		}
	}
}

// receive takes what the guard has read, on the goroutine that reads. It waits for
// room, but not for ever.
func (s *session) receive(p *incoming) {
	c, l := s.conn, s.l
	c.heard(publish)
	if p.duplicate || !s.subscribed.Load() {
		s.resumed.Store(true)
	}
	if s.hearing.hears(p) {
		if p.qos > 0 {
			c.acknowledge(p.packet)
		}
		return
	}
	m := Message{Topic: p.topic, Payload: p.payload, Size: p.size, QoS: p.qos, Retained: p.retained, Ack: func() {}, Lost: func() bool { return false }}
	switch {
	case m.Truncated():
		c.busy()
		if p.qos > 0 {
			c.acknowledge(p.packet)
		}
		m.QoS = 0 // nobody waits for it any more
		l.drop("message from the broker is too large and was dropped", p)
		l.inbound.put(m)
	case p.qos == 0:
		if !l.inbound.put(m) {
			l.drop("message from the broker was dropped: too many wait to be handled", p)
		}
	default:
		m.Lost, m.Ack = c.over, c.receipt(p.packet)
		if !s.inTime(m) {
			c.fail(errFull) // not acknowledged, so the broker keeps it
		}
	}
}

// inTime puts a message that must not be lost where its receiver finds it, as soon
// as there is room.
func (s *session) inTime(m Message) bool {
	room := func() bool { return s.conn.unacked.Load() <= maxUnacked && s.l.inbound.put(m) }
	if room() {
		return true
	}
	again := time.NewTicker(roomEvery)
	defer again.Stop()
	for end := time.Now().Add(roomWait); time.Now().Before(end); {
		select {
		case <-s.conn.down:
			return true // it comes again
		case <-again.C:
		}
		if room() {
			return true
		}
	}
	return false
}

// receipt begins a message that is to be acknowledged, and gives what does so.
func (c *conn) receipt(packet uint16) (ack func()) {
	c.unacked.Add(1)
	return sync.OnceFunc(func() {
		c.unacked.Add(-1)
		if !c.over() {
			c.acknowledge(packet)
		}
	})
}

// acknowledge sends a PUBACK; an error ends the connection.
func (c *conn) acknowledge(packet uint16) {
	if _, err := c.Write([]byte{puback << 4, 2, byte(packet >> 8), byte(packet)}); err != nil {
		c.fail(err)
	}
}

// drop counts a message that is lost, and logs the first and then how many more
// there were, once in a while.
func (l *Link) drop(why string, p *incoming) {
	l.dropped.Add(1)
	l.mu.Lock()
	l.untold++
	now := time.Now()
	due := l.dropsTold.IsZero() || now.Sub(l.dropsTold) >= dropsEvery
	n := l.untold
	if due {
		l.untold, l.dropsTold = 0, now
	}
	l.mu.Unlock()
	if due {
		l.cfg.Log.Warn(why, "topic", shown(p.topic), "bytes", p.size, "messages", n)
	}
}

// topicShown is how many bytes of a topic the log has.
const topicShown = 256

// shown is a topic for the log, as long as any that AWS IoT Core takes.
func shown(topic string) string {
	if len(topic) <= topicShown {
		return topic
	}
	return topic[:topicShown] + "..."
}
