package board

import (
	"encoding/binary"
	"math"
	"testing"
	"time"
)

// event returns a struct gpio_v2_line_event.
func event(seq uint32, rising bool, at time.Duration) []byte {
	b := make([]byte, eventSize)
	binary.NativeEndian.PutUint64(b, uint64(at))
	id := uint32(2)
	if rising {
		id = 1
	}
	binary.NativeEndian.PutUint32(b[8:], id)
	binary.NativeEndian.PutUint32(b[12:], 17)
	binary.NativeEndian.PutUint32(b[16:], 1000+seq) // the number in the request, not in the line
	binary.NativeEndian.PutUint32(b[20:], seq)
	return b
}

func TestEdgeQueue(t *testing.T) {
	q := newEdgeQueue()
	q.addEvents(append(event(1, true, time.Second), event(2, false, 2*time.Second)...))
	q.addEvents(event(6, true, 3*time.Second))
	q.addEvents(event(7, false, 4*time.Second)[:47]) // incomplete: the kernel never returns this
	for _, want := range []Edge{
		{true, time.Second, 0},
		{false, 2 * time.Second, 0},
		{true, 3 * time.Second, 3},
	} {
		if got := <-q.edges; got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	if len(q.edges) != 0 {
		t.Errorf("%d more edges", len(q.edges))
	}
}

// The kernel may drop edges before the first one is read, and its numbers wrap around.
func TestEdgeQueueLostAtTheEnds(t *testing.T) {
	q := newEdgeQueue()
	q.addEvents(event(5, true, 0))
	if e := <-q.edges; e.Lost != 4 {
		t.Errorf("lost %d before the first, want 4", e.Lost)
	}
	q.decoder.last = math.MaxUint32 - 1
	q.addEvents(event(1, true, 0))
	if e := <-q.edges; e.Lost != 2 {
		t.Errorf("lost %d over the wrap, want 2", e.Lost)
	}
}

// Without a receiver addEvents does not block, keeps the newest edges and counts all
// others.
func TestEdgeQueueLag(t *testing.T) {
	const sent = 1000
	q := newEdgeQueue()
	for seq := uint32(1); seq <= sent; seq++ {
		if seq == 500 {
			continue // the kernel lost one, too
		}
		q.addEvents(event(seq, seq%2 == 1, time.Duration(seq)))
	}
	if len(q.edges) != edgeQueueSize {
		t.Fatalf("%d edges wait, want %d", len(q.edges), edgeQueueSize)
	}
	var got, lost uint32
	last := Edge{}
	for range edgeQueueSize {
		last = <-q.edges
		got++
		lost += last.Lost
	}
	if got+lost != sent {
		t.Errorf("got %d, lost %d, of %d", got, lost, sent)
	}
	if last.Mono != sent || last.Active {
		t.Errorf("the newest is %+v", last)
	}
}
