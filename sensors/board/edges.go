package board

import (
	"encoding/binary"
	"time"
)

const (
	edgeQueueSize = 64  // edges that wait for a receiver before the oldest is lost
	kernelQueue   = 256 // edges that wait in the kernel; its default is 16
	eventSize     = 48  // sizeof(struct gpio_v2_line_event), linux/gpio.h
	eventRising   = 1   // GPIO_V2_LINE_EVENT_RISING_EDGE: inactive to active
)

// edgeQueue hands edges to a receiver without ever waiting for it. One
// goroutine calls put.
type edgeQueue struct {
	edges chan Edge
	last  uint32 // the number of the line's latest event
}

func newEdgeQueue() *edgeQueue {
	return &edgeQueue{edges: make(chan Edge, edgeQueueSize)}
}

// put takes the kernel's events, each of eventSize bytes.
//
// The kernel numbers a line's events from 1 and, when its queue is full,
// drops the oldest; a step in the numbers says how many.
func (q *edgeQueue) put(events []byte) {
	for ; len(events) >= eventSize; events = events[eventSize:] {
		seq := binary.NativeEndian.Uint32(events[20:])
		lost := seq - q.last - 1
		q.last = seq
		q.add(Edge{
			Active: binary.NativeEndian.Uint32(events[8:]) == eventRising,
			Mono:   time.Duration(binary.NativeEndian.Uint64(events)),
			Lost:   lost,
		})
	}
}

// add appends an edge; when the queue is full, the oldest makes room and is
// counted, with what was lost before it.
func (q *edgeQueue) add(e Edge) {
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
