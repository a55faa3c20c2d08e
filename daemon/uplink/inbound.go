package uplink

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Incoming messages bypass the protocol client: it would keep each message in a store until
// it is acknowledged, and several more in its goroutines. The packetReader reads a message
// directly into the memory that its receiver gets, or discards it. So the number and the
// bytes of the messages that a broker can make us hold are limited here.

const (
	// maxInbound bounds the messages that wait. AWS IoT Core has at most 100 in flight. But
	// mosquitto 2.0, after a restart, sends everything it has kept for a session at once:
	// 1000 messages, unless max_queued_messages is set.
	maxInbound = 1280
	// maxInboundBytes bounds the bytes of the messages that wait, with their topics and
	// overhead. There is always room for one message, however large.
	maxInboundBytes = 4 << 20
	inboundOverhead = 256
	// maxUnacked bounds the messages at QoS 1 that are waiting or with their receiver and are
	// not acknowledged.
	maxUnacked = maxInbound
	// inboundWait is how long reading waits for room before it ends the connection. After a
	// new connection the broker would send the unacknowledged messages again, all at once. It
	// is longer than an unfinished message may delay the acknowledgement of others (5 s,
	// package command), and shorter than a ping waits for its answer.
	inboundWait  = 8 * time.Second
	inboundRetry = 10 * time.Millisecond
	// truncatedBytes is how much of a message over the limit is kept.
	truncatedBytes = 1 << 10
	// defaultMaxPayload is the limit if Config has none. AWS IoT Core sends no payload over
	// 128 KiB; other brokers may send 256 MB.
	defaultMaxPayload = 128 << 10
	// logDropsEvery bounds how often dropped messages are logged.
	logDropsEvery = time.Minute
)

// Message is a message from the broker. Only Ack acknowledges it, whatever its QoS; see MQTT
// 3.1.1, section 4.3.2.
type Message struct {
	Topic   string
	Payload []byte // belongs to the receiver
	// Size is the size in bytes of the payload that the broker sent. If it is more than
	// Config.MaxPayload, Payload is only the first KiB, the rest was discarded, and the
	// message has already been acknowledged. It counts as dropped.
	Size     int
	QoS      byte // also 0 if the message is truncated
	Retained bool
	// Ack sends the PUBACK. If the connection has ended, it does nothing. Any goroutine, any
	// number of times.
	Ack func()
	// Lost reports whether the message's connection has ended. Then the broker will send the
	// message again, so a receiver that has not begun to act drops it. At QoS 0 it is always
	// false, because the broker sends nothing again.
	Lost func() bool
}

// Truncated reports whether Payload is only the beginning; see Size.
func (m Message) Truncated() bool { return m.Size > len(m.Payload) }

// inboundQueue holds the messages that wait for their receiver.
type inboundQueue struct {
	ch chan Message

	mu    sync.Mutex
	sizes []int // of the messages in ch, oldest first, and of some taken earlier
	bytes int   // their sum
}

func newInboundQueue() *inboundQueue { return &inboundQueue{ch: make(chan Message, maxInbound)} }

// add adds a message if there is room. It never blocks.
func (q *inboundQueue) add(m Message) (ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.addLocked(m)
}

func (q *inboundQueue) addLocked(m Message) (ok bool) {
	q.forgetTakenLocked()
	size := len(m.Payload) + len(m.Topic) + inboundOverhead
	if len(q.sizes) > 0 && q.bytes+size > maxInboundBytes {
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

// forgetTakenLocked removes the sizes of messages that were taken.
func (q *inboundQueue) forgetTakenLocked() {
	n := len(q.sizes) - len(q.ch)
	for _, size := range q.sizes[:n] {
		q.bytes -= size
	}
	q.sizes = append(q.sizes[:0], q.sizes[n:]...)
}

// discard drops the messages of an ended connection that nobody has begun to handle; at QoS 1
// the broker sends them again. Messages at QoS 0 stay, in their order, unless all is set. It
// never blocks, because nobody else can add messages meanwhile.
func (q *inboundQueue) discard(all bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for range len(q.ch) {
		select {
		case m := <-q.ch:
			if m.QoS == 0 && !all {
				q.addLocked(m) // there is room: this one was just taken
			}
		default: // the receiver was faster
		}
	}
}

// dropCounter counts lost messages from the broker. Any goroutine.
type dropCounter struct {
	log   *slog.Logger
	total atomic.Uint64

	mu       sync.Mutex
	unlogged uint64
	logged   time.Time
}

// add counts a message. It logs the first one, and after that, at intervals, how many more
// there were.
func (d *dropCounter) add(why string, p *publishPacket) {
	d.total.Add(1)
	d.mu.Lock()
	d.unlogged++
	now := time.Now()
	due := d.logged.IsZero() || now.Sub(d.logged) >= logDropsEvery
	n := d.unlogged
	if due {
		d.unlogged, d.logged = 0, now
	}
	d.mu.Unlock()
	if due {
		d.log.Warn(why, "topic", shown(p.topic), "bytes", p.size, "messages", n)
	}
}

// receiver receives the PUBLISH packets of one connection. The reading goroutine calls it.
type receiver struct {
	queue         *inboundQueue
	drops         *dropCounter
	transport     *transport
	echo          *echoListener
	subscribeSent *atomic.Bool
	resumed       atomic.Bool // a message came that must be from an earlier session
}

// receive queues a message, drops it or treats it as an echo. It waits for room, but not for
// ever.
func (r *receiver) receive(p *publishPacket) {
	t := r.transport
	t.noteReceived(publish)
	if p.duplicate || !r.subscribeSent.Load() {
		r.resumed.Store(true)
	}
	if r.echo.received(p) {
		if p.qos > 0 {
			t.sendPuback(p.packet)
		}
		return
	}
	m := Message{Topic: p.topic, Payload: p.payload, Size: p.size, QoS: p.qos, Retained: p.retained, Ack: func() {}, Lost: func() bool { return false }}
	switch {
	case m.Truncated():
		t.notePartReceived()
		if p.qos > 0 {
			t.sendPuback(p.packet)
		}
		m.QoS = 0 // it is acknowledged already
		r.drops.add("message from the broker is too large and was dropped", p)
		r.queue.add(m)
	case p.qos == 0:
		if !r.queue.add(m) {
			r.drops.add("message from the broker was dropped: too many wait to be handled", p)
		}
	default:
		m.Lost, m.Ack = t.over, t.ackOnce(p.packet)
		if !r.enqueue(m) {
			t.fail(errFull) // not acknowledged, so the broker still has it
		}
	}
}

// enqueue queues a message that must not be lost, as soon as there is room. It reports
// whether there was room in time.
func (r *receiver) enqueue(m Message) bool {
	add := func() bool { return r.transport.unacked.Load() <= maxUnacked && r.queue.add(m) }
	if add() {
		return true
	}
	retry := time.NewTicker(inboundRetry)
	defer retry.Stop()
	for end := time.Now().Add(inboundWait); time.Now().Before(end); {
		select {
		case <-r.transport.down:
			return true // the broker sends it again
		case <-retry.C:
		}
		if add() {
			return true
		}
	}
	return false
}

// ackOnce counts a message as unacknowledged and returns the function that acknowledges it.
func (t *transport) ackOnce(packet uint16) (ack func()) {
	t.unacked.Add(1)
	return sync.OnceFunc(func() {
		t.unacked.Add(-1)
		if !t.over() {
			t.sendPuback(packet)
		}
	})
}

// sendPuback sends a PUBACK. An error ends the connection.
func (t *transport) sendPuback(packet uint16) {
	if _, err := t.Write([]byte{puback << 4, 2, byte(packet >> 8), byte(packet)}); err != nil {
		t.fail(err)
	}
}

// shownBytes bounds a topic in the log. It is the longest topic that AWS IoT Core accepts.
const shownBytes = 256

// shown shortens a topic for the log.
func shown(topic string) string {
	if len(topic) <= shownBytes {
		return topic
	}
	return topic[:shownBytes] + "..."
}
