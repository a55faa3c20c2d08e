package sim

import (
	"fmt"
	"os"
	"slices"
	"time"

	"fieldpost/sensors/board"
)

// queue is the number of edges that wait for a receiver before the oldest is lost.
const queue = 64

// input is a line requested as an input. Its fields are guarded by the
// board's lock.
type input struct {
	l      *Line
	c      board.InputConfig
	edges  chan board.Edge
	reader bool         // nobody receives edges; they wait in:
	fifo   []board.Edge // the kernel's queue
	active bool         // the debounced level
	timer  *time.Timer
	lost   uint32
	closed bool
}

var _ board.Input = (*input)(nil)

// Input requests a line as an input.
func (b *Board) Input(c board.InputConfig) (board.Input, error) {
	in, err := newInput(b, c, false)
	if err != nil {
		return nil, err
	}
	return in, nil
}

// EdgeReader requests a line as an input whose edges wait until they are read.
func (b *Board) EdgeReader(c board.InputConfig) (board.EdgeReader, error) {
	in, err := newInput(b, c, true)
	if err != nil {
		return nil, err
	}
	return edgeReader{in}, nil
}

// edgeReader reads the edges of an input without waiting.
type edgeReader struct{ *input }

// Read appends the edges that wait.
func (r edgeReader) Read(edges []board.Edge) ([]board.Edge, error) {
	r.l.b.mu.Lock()
	defer r.l.b.mu.Unlock()
	switch {
	case r.closed:
		return edges, fmt.Errorf("read edges of line %s: %w", r.l.id, os.ErrClosed)
	case r.l.fail != nil:
		return edges, fmt.Errorf("read edges of line %s: %w", r.l.id, r.l.fail)
	}
	edges = append(edges, r.fifo...)
	r.fifo = r.fifo[:0]
	return edges, nil
}

// newInput requests a line, for a reader or for somebody who receives its edges.
func newInput(b *Board, c board.InputConfig, reader bool) (*input, error) {
	l, err := b.line(c.Line)
	if err != nil {
		return nil, err
	}
	if c.Debounce < 0 {
		return nil, fmt.Errorf("request line %s: debounce %v: want 0 or more", l.id, c.Debounce)
	}
	c.Consumer = consumer(c.Consumer)
	in := &input{l: l, c: c, edges: make(chan board.Edge, queue), reader: reader}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := l.free(); err != nil {
		return nil, err
	}
	l.in, l.kept = in, nil
	high, _ := l.level()
	in.active = high != c.ActiveLow
	l.settle()
	return in, nil
}

// see passes the wire's level to the input. As in the kernel (gpiolib-cdev.c), a change
// counts and gets its time stamp when the new level has lasted for the debounce period.
func (in *input) see(high bool) {
	if in.timer != nil {
		if (high != in.c.ActiveLow) != in.active {
			return // the timer for this change is running
		}
		in.timer.Stop()
		in.timer = nil
		return
	}
	if (high != in.c.ActiveLow) == in.active {
		return
	}
	if in.c.Debounce == 0 {
		in.flip()
		return
	}
	var t *time.Timer
	t = time.AfterFunc(in.c.Debounce, func() {
		in.l.b.mu.Lock()
		defer in.l.b.mu.Unlock()
		if in.timer == t {
			in.timer = nil
			in.flip()
		}
	})
	in.timer = t
}

// flip changes the level and queues the edge.
func (in *input) flip() { in.flipAt(in.l.b.mono()) }

// flipAt is flip with a time stamp. A full queue drops the oldest edge.
func (in *input) flipAt(mono time.Duration) {
	in.active = !in.active
	e := board.Edge{Active: in.active, Mono: mono}
	if in.reader {
		in.keep(e)
		return
	}
	for {
		e.Lost = in.lost
		select {
		case in.edges <- e:
			in.lost = 0
			return
		default:
		}
		select {
		case old := <-in.edges:
			in.lost += 1 + old.Lost
		default:
		}
	}
}

// keep adds an edge to the kernel's queue. A full one drops its oldest edge, and the number of
// the next one shows it.
func (in *input) keep(e board.Edge) {
	if len(in.fifo) == board.EdgesKept {
		in.fifo[1].Lost += 1 + in.fifo[0].Lost
		in.fifo = slices.Delete(in.fifo, 0, 1)
	}
	in.fifo = append(in.fifo, e)
}

// ID says which line it is.
func (in *input) ID() board.LineID { return in.l.id }

// Active returns the debounced level.
func (in *input) Active() (bool, error) {
	in.l.b.mu.Lock()
	defer in.l.b.mu.Unlock()
	switch {
	case in.closed:
		return false, fmt.Errorf("read line %s: %w", in.l.id, os.ErrClosed)
	case in.l.fail != nil:
		return false, fmt.Errorf("read line %s: %w", in.l.id, in.l.fail)
	}
	return in.active, nil
}

// Edges delivers the changes.
func (in *input) Edges() <-chan board.Edge { return in.edges }

// Close releases the line and closes Edges.
func (in *input) Close() error {
	in.l.b.mu.Lock()
	defer in.l.b.mu.Unlock()
	if in.closed {
		return fmt.Errorf("close line %s: %w", in.l.id, os.ErrClosed)
	}
	in.release()
	return nil
}

// release ends the request, under the lock.
func (in *input) release() {
	in.closed = true
	if in.timer != nil {
		in.timer.Stop()
		in.timer = nil
	}
	in.l.in = nil
	close(in.edges)
	in.l.settle()
}
