package uplink

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"time"

	"fieldpost/daemon/wake"
)

// Publication is one message to be published, at QoS 1.
type Publication struct {
	ID      uint64 // the outbox's id of the message, the same after each Rewind
	Topic   string
	Payload []byte
	Retain  bool // the broker keeps it for later subscribers
	Urgent  bool // somebody is waiting for its PUBACK; see Config.AckDelay
}

// Outbox is the source of the uplink's messages. The uplink calls it from one goroutine at a
// time; the outbox's owner may fill it from others.
type Outbox interface {
	// Rewind makes every unacknowledged message unsent again. It is called at the start of
	// each connection.
	Rewind()
	// Next returns the next unsent message, the most urgent first; ok is false if there is
	// none now.
	Next() (m Publication, ok bool)
	// Ready is signalled when Next may have more; see package wake.
	Ready() <-chan struct{}
	// Hold reports that a message is not sent before the next Rewind, because its topic is
	// denied. So the outbox need keep no state of such messages until then, however many
	// there are.
	Hold(id uint64)
	// Ack reports that the broker's PUBACK for a message has come, so the outbox can remove
	// it.
	Ack(id uint64)
	// Refuse sets a message aside that can never be sent, and reports it. If the message is a
	// batch, its parts may come again after a rewind instead.
	Refuse(id uint64, reason string)
}

// Batcher is an [Outbox] that may hold messages until there are more to send with them. The
// uplink wakes up when they have waited long enough.
type Batcher interface {
	Outbox
	// Due returns when Next will return a message that is waiting now, even if nothing comes
	// to go with it; the zero time if none is waiting.
	Due() time.Time
	// Flush stops messages from waiting, until the next Rewind. It is called at an orderly end.
	Flush()
}

// Queue is an [Outbox] in memory, for programs that send a few messages and wait for their
// acknowledgement. Any goroutine may call its methods.
type Queue struct {
	ready wake.Signal

	mu     sync.Mutex
	last   uint64
	queued []queued // unacknowledged messages, in the order of Publish
	unsent int      // index of the first that Next has not returned
}

type queued struct {
	Publication
	done chan error
}

// NewQueue returns an empty queue.
func NewQueue() *Queue {
	return &Queue{ready: wake.New()}
}

// Publish queues a message. The channel delivers once: nil when the broker has acknowledged
// the message, or the reason why it can never be sent. The payload is copied.
func (q *Queue) Publish(topic string, payload []byte) (done <-chan error) {
	return q.Put(Publication{Topic: topic, Payload: payload})
}

// Put is Publish for a message with all its fields. The queue sets the ID.
func (q *Queue) Put(p Publication) (done <-chan error) {
	ch := make(chan error, 1)
	q.mu.Lock()
	q.last++
	p.ID, p.Payload = q.last, bytes.Clone(p.Payload)
	q.queued = append(q.queued, queued{p, ch})
	q.mu.Unlock()
	q.ready.Set()
	return ch
}

// Rewind implements [Outbox].
func (q *Queue) Rewind() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.unsent = 0
}

// Next implements [Outbox].
func (q *Queue) Next() (Publication, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.unsent == len(q.queued) {
		return Publication{}, false
	}
	q.unsent++
	return q.queued[q.unsent-1].Publication, true
}

// Ready implements [Outbox].
func (q *Queue) Ready() <-chan struct{} { return q.ready.C() }

// Hold implements [Outbox].
func (q *Queue) Hold(uint64) {}

// Ack implements [Outbox].
func (q *Queue) Ack(id uint64) { q.settle(id, nil) }

// Refuse implements [Outbox].
func (q *Queue) Refuse(id uint64, reason string) {
	q.settle(id, errors.New("cannot be sent: "+reason))
}

func (q *Queue) settle(id uint64, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.IndexFunc(q.queued, func(m queued) bool { return m.ID == id })
	if i < 0 {
		return
	}
	q.queued[i].done <- err
	q.queued = slices.Delete(q.queued, i, i+1)
	if i < q.unsent {
		q.unsent--
	}
}
