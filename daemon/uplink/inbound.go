package uplink

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Messages to us go past the protocol client: it keeps each of them in a store until
// it is acknowledged, and several more on their way through its goroutines. The
// packetReader reads a message straight into the memory that its receiver gets, or
// reads past it. So what a broker can have us hold is bounded here, in number and in
// bytes, whatever it sends.

const (
	// maxInbound is how many messages may wait: AWS IoT Core has 100 in flight at
	// most, but mosquitto 2.0 that was restarted sends all that it has kept for a
	// session at once, 1000 where its max_queued_messages is not set.
	maxInbound = 1280
	// maxInboundBytes is how many bytes of them may wait, with topics and the overhead
	// of each. One message has room however large it is.
	maxInboundBytes = 4 << 20
	inboundOverhead = 256
	// maxUnacked is how many messages at QoS 1 may be with their receiver, or wait,
	// unacknowledged.
	maxUnacked = maxInbound
	// inboundWait is how long reading waits for room, rather than end the connection:
	// then the broker sends again what was not acknowledged, and as much at once. It is
	// longer than one message that is not finished may hold up the acknowledgement of
	// others (5 s, package command), and shorter than a ping waits for its answer.
	inboundWait  = 8 * time.Second
	inboundRetry = 10 * time.Millisecond
	// truncatedBytes is how much is kept of a message over the limit.
	truncatedBytes = 1 << 10
	// defaultMaxPayload is the limit unless Config has one: AWS IoT Core sends no
	// payload over 128 KiB; other brokers may send 256 MB.
	defaultMaxPayload = 128 << 10
	// logDropsEvery is how often dropped messages are logged at most.
	logDropsEvery = time.Minute
)

// Message is a message from the broker. It is acknowledged to the broker only by Ack,
// whatever its QoS; see MQTT 3.1.1, section 4.3.2.
type Message struct {
	Topic   string
	Payload []byte // belongs to the receiver
	// Size is the payload's size in bytes as the broker sent it. Where that is over
	// Config.MaxPayload, Payload is only its first KiB: the rest was read past, and the
	// message has been acknowledged. It counts as dropped.
	Size     int
	QoS      byte // 0 too for one that is truncated
	Retained bool
	// Ack sends the PUBACK; on a connection that has ended it does nothing. Any
	// goroutine, any number of times.
	Ack func()
	// Lost reports whether the connection it came on has ended: the broker will send it
	// again, so a receiver that has not begun to act drops it. At QoS 0 it is always
	// false, as nothing is sent again.
	Lost func() bool
}

// Truncated reports whether only the payload's beginning is here; see Size.
func (m Message) Truncated() bool { return m.Size > len(m.Payload) }

// inboundQueue is the messages that wait for their receiver.
type inboundQueue struct {
	ch chan Message

	mu    sync.Mutex
	sizes []int // of those in ch, the oldest first, and of some taken before
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

// forgetTakenLocked forgets the sizes of those that were taken.
func (q *inboundQueue) forgetTakenLocked() {
	n := len(q.sizes) - len(q.ch)
	for _, size := range q.sizes[:n] {
		q.bytes -= size
	}
	q.sizes = append(q.sizes[:0], q.sizes[n:]...)
}

// discard drops the messages of an ended connection that nobody has begun to handle: at
// QoS 1 the broker sends them again. Those at QoS 0 stay in their order, unless all are
// to go. It never blocks, as nobody else can add meanwhile.
func (q *inboundQueue) discard(all bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for range len(q.ch) {
		select {
		case m := <-q.ch:
			if m.QoS == 0 && !all {
				q.addLocked(m) // there is room: this one was just taken
			}
		default: // its receiver was faster
		}
	}
}

// dropCounter counts the messages from the broker that were lost. Any goroutine.
type dropCounter struct {
	log   *slog.Logger
	total atomic.Uint64

	mu       sync.Mutex
	unlogged uint64
	logged   time.Time
}

// add counts a message, and logs the first and then how many more there were, once in
// a while.
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

// receiver takes the PUBLISH packets of one connection. The goroutine that reads.
type receiver struct {
	queue         *inboundQueue
	drops         *dropCounter
	transport     *transport
	echo          *echoListener
	subscribeSent *atomic.Bool
	resumed       atomic.Bool // a message came that only an earlier session can have brought
}

// receive takes a message: it queues it, or drops it, or takes it for an echo. It
// waits for room, but not forever.
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
		m.QoS = 0 // nobody waits for it any more
		r.drops.add("message from the broker is too large and was dropped", p)
		r.queue.add(m)
	case p.qos == 0:
		if !r.queue.add(m) {
			r.drops.add("message from the broker was dropped: too many wait to be handled", p)
		}
	default:
		m.Lost, m.Ack = t.over, t.ackOnce(p.packet)
		if !r.enqueue(m) {
			t.fail(errFull) // not acknowledged, so the broker keeps it
		}
	}
}

// enqueue queues a message that must not be lost as soon as there is room. It reports
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
			return true // it comes again
		case <-retry.C:
		}
		if add() {
			return true
		}
	}
	return false
}

// ackOnce counts a message as unacknowledged and gives what acknowledges it.
func (t *transport) ackOnce(packet uint16) (ack func()) {
	t.unacked.Add(1)
	return sync.OnceFunc(func() {
		t.unacked.Add(-1)
		if !t.over() {
			t.sendPuback(packet)
		}
	})
}

// sendPuback sends a PUBACK; an error ends the connection.
func (t *transport) sendPuback(packet uint16) {
	if _, err := t.Write([]byte{puback << 4, 2, byte(packet >> 8), byte(packet)}); err != nil {
		t.fail(err)
	}
}

// shownBytes is how many bytes of a topic the log has: as many as any topic that AWS
// IoT Core takes.
const shownBytes = 256

// shown is a topic for the log.
func shown(topic string) string {
	if len(topic) <= shownBytes {
		return topic
	}
	return topic[:shownBytes] + "..."
}
