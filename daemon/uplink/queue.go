package uplink

import (
	"bytes"
	"errors"
	"slices"
	"sync"
)

// Queue is an [Outbox] in memory, for programs that send a few messages and
// wait for them. Its methods may be called from any goroutine.
type Queue struct {
	ready chan struct{}

	mu     sync.Mutex
	last   uint64
	mail   []queued // not acknowledged, in the order of Publish
	unsent int      // index of the first that Next has not given
}

type queued struct {
	Publication
	done chan error
}

// NewQueue gives an empty queue.
func NewQueue() *Queue {
	return &Queue{ready: make(chan struct{}, 1)}
}

// Publish queues a message. The channel it gives delivers once: nil when the broker
// has acknowledged the message, or the reason why it can never be sent. The
// payload is copied.
func (q *Queue) Publish(topic string, payload []byte) (done <-chan error) {
	ch := make(chan error, 1)
	q.mu.Lock()
	q.last++
	q.mail = append(q.mail, queued{Publication{ID: q.last, Topic: topic, Payload: bytes.Clone(payload)}, ch})
	q.mu.Unlock()
	select {
	case q.ready <- struct{}{}:
	default:
	}
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
	if q.unsent == len(q.mail) {
		return Publication{}, false
	}
	q.unsent++
	return q.mail[q.unsent-1].Publication, true
}

// Ready implements [Outbox].
func (q *Queue) Ready() <-chan struct{} { return q.ready }

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
	i := slices.IndexFunc(q.mail, func(m queued) bool { return m.ID == id })
	if i < 0 {
		return
	}
	q.mail[i].done <- err
	q.mail = slices.Delete(q.mail, i, i+1)
	if i < q.unsent {
		q.unsent--
	}
}
