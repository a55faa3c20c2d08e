package board

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// edgeReader is a requested input whose edges wait in the kernel.
type edgeReader struct {
	id      LineID
	kernel  gpioKernel
	file    *os.File
	decoder edgeDecoder
	events  [readEvents * eventSize]byte
}

var _ EdgeReader = (*edgeReader)(nil)

// EdgeReader requests a line as an input whose edges wait in the kernel. It has no
// goroutine.
func (m *Machine) EdgeReader(c InputConfig) (EdgeReader, error) {
	id, err := m.Find(c.Line)
	if err != nil {
		return nil, err
	}
	r, err := inputRequest(id.Offset, c, true)
	if err != nil {
		return nil, fmt.Errorf("request line %s: %w", id, err)
	}
	f, err := m.requestQuiet(id, r)
	if err != nil {
		return nil, err
	}
	return &edgeReader{id: id, kernel: m.kernel, file: f}, nil
}

// ID says which line it is.
func (r *edgeReader) ID() LineID { return r.id }

// Active reads the level now.
func (r *edgeReader) Active() (bool, error) { return readLine(r.kernel, r.id, r.file) }

// Read appends the edges that wait in the kernel. It takes no more than one queue of them,
// and a few that come meanwhile, so that it ends on a line that changes all the time.
func (r *edgeReader) Read(edges []Edge) ([]Edge, error) {
	for range kernelQueue/readEvents + 1 {
		n := 0
		err := control(r.file, func(fd uintptr) (err error) {
			n, err = unix.Read(int(fd), r.events[:])
			return err
		})
		switch {
		case errors.Is(err, unix.EAGAIN):
			return edges, nil
		case errors.Is(err, unix.EINTR):
			continue
		case err == nil && n <= 0:
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return edges, lineError("read edges of", r.id, err)
		}
		for at := 0; at+eventSize <= n; at += eventSize {
			edges = append(edges, r.decoder.decode(r.events[at:]))
		}
	}
	return edges, nil
}

// Close releases the line.
func (r *edgeReader) Close() error {
	if err := r.file.Close(); err != nil {
		return fmt.Errorf("close line %s: %w", r.id, err)
	}
	return nil
}
