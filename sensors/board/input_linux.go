package board

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// inputLine is a requested input.
type inputLine struct {
	id     LineID
	kernel gpioKernel
	file   *os.File
	queue  *edgeQueue
	ended  chan struct{} // closed when follow has returned
	quit   chan struct{} // closed by Close
	once   sync.Once     // closes quit

	mu  sync.Mutex
	err error // why follow ended, unless by Close
}

var _ Input = (*inputLine)(nil)

// Input requests a line as an input. The input has a goroutine, which Close ends and
// waits for.
func (m *Machine) Input(c InputConfig) (Input, error) {
	id, err := m.Find(c.Line)
	if err != nil {
		return nil, err
	}
	in, err := m.input(id, c, true)
	if err != nil {
		return nil, err
	}
	return in, nil
}

// input requests the line id and ignores c.Line. Without edges it starts no goroutine,
// and Edges never delivers any.
func (m *Machine) input(id LineID, c InputConfig, edges bool) (*inputLine, error) {
	r, err := inputRequest(id.Offset, c, edges)
	if err != nil {
		return nil, fmt.Errorf("request line %s: %w", id, err)
	}
	f, err := m.request(id, r)
	if err != nil {
		return nil, err
	}
	in := &inputLine{id: id, kernel: m.kernel, file: f, queue: newEdgeQueue(), ended: make(chan struct{}), quit: make(chan struct{})}
	if edges {
		go in.follow()
	} else {
		close(in.ended)
	}
	return in, nil
}

// follow reads the kernel's events until the line is closed or unplugged. A panic ends it as
// if the line were unplugged: the reader of the line gets the error and opens it again.
func (in *inputLine) follow() {
	defer close(in.ended)
	if err := guard(in.queueEvents); err != nil {
		in.mu.Lock()
		in.err = err
		in.mu.Unlock()
	}
}

// queueEvents queues events until Close, when it returns nil, or until the line is unplugged.
func (in *inputLine) queueEvents() error {
	var events [readEvents * eventSize]byte
	var pace pacer
	for {
		n, err := in.file.Read(events[:])
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded): // Close has been called
			in.last(events[:])
			return nil
		case errors.Is(err, os.ErrClosed):
			return nil
		case err != nil:
			return err
		}
		in.queue.addEvents(events[:n])
		if wait := pace.read(time.Now()); wait > 0 && !in.rest(wait) {
			in.last(events[:])
			return nil
		}
	}
}

// rest waits. It returns false if Close is called meanwhile.
func (in *inputLine) rest(wait time.Duration) bool {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-in.quit:
		return false
	}
}

// last reads the events that still wait in the kernel, so that the last edge has the
// line's level.
func (in *inputLine) last(events []byte) {
	for range kernelQueue/readEvents + 1 {
		n := 0
		err := control(in.file, func(fd uintptr) (err error) {
			n, err = unix.Read(int(fd), events) // does not block, see request
			return err
		})
		if err != nil || n <= 0 {
			return
		}
		in.queue.addEvents(events[:n])
	}
}

// ID says which line it is.
func (in *inputLine) ID() LineID { return in.id }

// Active reads the level now. If the line was unplugged only its error shows it: Edges
// stays open and silent.
func (in *inputLine) Active() (bool, error) {
	in.mu.Lock()
	err := in.err
	in.mu.Unlock()
	if err != nil {
		return false, lineError("read", in.id, fmt.Errorf("its edges have ended: %w", err))
	}
	return readLine(in.kernel, in.id, in.file)
}

// Edges delivers the changes.
func (in *inputLine) Edges() <-chan Edge { return in.queue.edges }

// Close releases the line, delivers the events that wait in the kernel, and closes Edges.
func (in *inputLine) Close() error {
	in.once.Do(func() { close(in.quit) })
	if err := in.file.SetReadDeadline(time.Now()); err == nil {
		<-in.ended
	} // otherwise the file is closed already or has no deadlines, and the read ends with it
	if err := in.file.Close(); err != nil {
		return fmt.Errorf("close line %s: %w", in.id, err)
	}
	<-in.ended
	close(in.queue.edges)
	return nil
}

// readLine reads the level of a requested line.
func readLine(k gpioKernel, id LineID, f *os.File) (bool, error) {
	v, err := k.get(f)
	if err != nil {
		return false, lineError("read", id, err)
	}
	return v.Bits&1 != 0, nil
}

// lineError wraps the error of a requested line. It says so if the line's chip, an
// expander, does not answer (i2c/fault-codes.rst), or if the chip was
// unplugged from USB.
func lineError(verb string, id LineID, err error) error {
	switch {
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("%s line %s: %w: its chip was unplugged (%w)", verb, id, ErrAbsent, err)
	case errors.Is(err, unix.EREMOTEIO), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("%s line %s: its chip does not answer, check its power and wires: %w", verb, id, err)
	case errors.Is(err, unix.ETIMEDOUT):
		return fmt.Errorf("%s line %s: the bus of its chip is stuck: %w", verb, id, err)
	}
	return fmt.Errorf("%s line %s: %w", verb, id, err)
}
