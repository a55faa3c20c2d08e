package systemd

import (
	"fmt"
	"os"
	"sync"
	"time"
)

const (
	maxQueuedLines = 500                    // lines that wait to be written
	writePatience  = 250 * time.Millisecond // how long a caller waits until its line is written
)

// asyncWriter writes lines one after the other on a goroutine of its own, so that
// nobody waits long for a journal that hangs or a pipe that nobody reads. Normally a
// line is written when writeLine returns, so that none is lost at the program's end.
type asyncWriter struct {
	patience   time.Duration
	lostNotice func(lost int) (write func()) // returns what writes the number of lost lines

	mu      sync.Mutex
	queue   []queuedLine
	writing bool // the goroutine runs
	stuck   bool // it did not write a line in time
	lost    int  // lines for which the queue had no room
}

// queuedLine is a line that waits to be written.
type queuedLine struct {
	write   func()
	written chan struct{} // closed when it is written
}

func newAsyncWriter(lostNotice func(lost int) func()) *asyncWriter {
	return &asyncWriter{patience: writePatience, lostNotice: lostNotice}
}

// writeLine queues a line and waits until it is written, unless writing is stuck. If
// there is no room in the queue, the line is lost.
func (a *asyncWriter) writeLine(write func()) {
	l := queuedLine{write, make(chan struct{})}
	a.mu.Lock()
	if len(a.queue) >= maxQueuedLines {
		a.lost++
		a.mu.Unlock()
		return
	}
	a.queue = append(a.queue, l)
	if !a.writing {
		a.writing = true
		go a.writeQueue()
	}
	stuck := a.stuck
	a.mu.Unlock()
	if !stuck {
		a.await(l)
	}
}

// await waits until a line is written, for the patience at most.
func (a *asyncWriter) await(l queuedLine) {
	timer := time.NewTimer(a.patience)
	defer timer.Stop()
	select {
	case <-l.written:
	case <-timer.C:
		a.mu.Lock()
		a.stuck = a.writing
		a.mu.Unlock()
	}
}

// writeQueue writes lines until the queue is empty.
func (a *asyncWriter) writeQueue() {
	for {
		a.mu.Lock()
		switch {
		case len(a.queue) == 0 && a.lost > 0:
			lost := a.lost
			a.queue = []queuedLine{{func() { a.lostNotice(lost)() }, make(chan struct{})}}
			a.lost = 0
		case len(a.queue) == 0:
			a.queue, a.writing, a.stuck = nil, false, false
			a.mu.Unlock()
			return
		}
		l := a.queue[0]
		a.queue = a.queue[1:]
		a.mu.Unlock()
		l.writeGuarded()
		close(l.written)
	}
}

// writeGuarded writes a line. A panic costs the line and not the process, which may have
// no other way to say what is wrong.
func (l queuedLine) writeGuarded() {
	defer func() {
		if p := recover(); p != nil {
			fmt.Fprintf(os.Stderr, "a log line was lost: writing it panicked: %v\n", p)
		}
	}()
	l.write()
}
