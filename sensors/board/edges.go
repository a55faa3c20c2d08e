package board

import (
	"encoding/binary"
	"time"
)

const (
	edgeQueueSize = 64  // edges that wait for a receiver before the oldest is lost
	kernelQueue   = 256 // edges that wait in the kernel; its default is 16
	eventSize     = 48  // sizeof(struct gpio_v2_line_event), linux/gpio.h
	readEvents    = 64  // events taken with one read
	eventRising   = 1   // GPIO_V2_LINE_EVENT_RISING_EDGE: inactive to active
)

// edgeQueue passes edges to a receiver without ever waiting for it. One goroutine calls
// addEvents.
type edgeQueue struct {
	edges   chan Edge
	decoder edgeDecoder
}

func newEdgeQueue() *edgeQueue {
	return &edgeQueue{edges: make(chan Edge, edgeQueueSize)}
}

// addEvents adds the kernel's events, each of eventSize bytes.
func (q *edgeQueue) addEvents(events []byte) {
	for ; len(events) >= eventSize; events = events[eventSize:] {
		q.addEdge(q.decoder.decode(events))
	}
}

// edgeDecoder decodes a line's events in their order.
//
// The kernel numbers a line's events from 1. When its queue is full it drops the oldest; a gap in
// the numbers says how many.
type edgeDecoder struct {
	last uint32 // the number of the line's latest event
}

// decode decodes the first event, of eventSize bytes.
func (d *edgeDecoder) decode(event []byte) Edge {
	seq := binary.NativeEndian.Uint32(event[20:])
	lost := seq - d.last - 1
	d.last = seq
	return Edge{
		Active: binary.NativeEndian.Uint32(event[8:]) == eventRising,
		Mono:   time.Duration(binary.NativeEndian.Uint64(event)),
		Lost:   lost,
	}
}

// addEdge appends an edge. When the queue is full it drops the oldest one, and counts it with the
// edges that were lost before it.
func (q *edgeQueue) addEdge(e Edge) {
	for {
		select {
		case q.edges <- e:
			return
		default:
		}
		select {
		case old := <-q.edges:
			e.Lost += old.Lost + 1
		default:
		}
	}
}

// A line that changes often is read less often, because each read wakes the processor: after
// readBurst quick reads, one every readEvery. At a thousand changes a second 50 edges wait then.
// kernelQueue has room for five times as many, and the edges have the kernel's time stamps.
const (
	readEvery = 50 * time.Millisecond
	readBurst = 40
)

// pacer says when a line's events may be read again. The zero value is ready.
type pacer struct {
	next time.Time // when a read is due without a burst; each read adds readEvery
}

// read counts a read at now, and returns how long to wait until the next one.
func (p *pacer) read(now time.Time) time.Duration {
	if p.next.Before(now) {
		p.next = now
	}
	p.next = p.next.Add(readEvery)
	return max(0, p.next.Sub(now)-readBurst*readEvery)
}
