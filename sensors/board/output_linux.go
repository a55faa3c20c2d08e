package board

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// outputLine is a requested output.
type outputLine struct {
	m        *Machine
	id       LineID
	c        OutputConfig // without Active, the level is the kernel's
	file     *os.File
	undriven atomic.Bool // a Restore has made it an input and failed then
}

var (
	_ Output   = (*outputLine)(nil)
	_ Restorer = (*outputLine)(nil)
)

// Output requests a line as an output.
func (m *Machine) Output(c OutputConfig) (Output, error) {
	o, err := m.drive(c)
	if err != nil {
		return nil, err
	}
	return o, nil
}

func (m *Machine) drive(c OutputConfig) (*outputLine, error) {
	id, err := m.Find(c.Line)
	if err != nil {
		return nil, err
	}
	return m.output(id, c)
}

// output requests the line id and ignores c.Line.
func (m *Machine) output(id LineID, c OutputConfig) (*outputLine, error) {
	if c.Keep {
		return m.keep(id, c)
	}
	r, err := outputRequest(id.Offset, c)
	if err != nil {
		return nil, fmt.Errorf("request line %s: %w", id, err)
	}
	f, err := m.request(id, r)
	if err != nil {
		return nil, err
	}
	return &outputLine{m: m, id: id, c: c, file: f}, nil
}

// keep requests the line without a direction, which leaves it as it is, reads its level,
// and then drives it at that level.
func (m *Machine) keep(id LineID, c OutputConfig) (*outputLine, error) {
	f, err := m.request(id, asIsRequest(id.Offset, c))
	if err != nil {
		return nil, err
	}
	o, err := m.take(f, id, c)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return o, nil
}

// ID says which line it is.
func (o *outputLine) ID() LineID { return o.id }

// Set drives the line.
func (o *outputLine) Set(active bool) error {
	if o.undriven.Load() {
		return o.configure(active)
	}
	if err := o.m.kernel.set(o.file, values(active)); err != nil {
		return lineError("set", o.id, err)
	}
	return nil
}

// Active reads back the level.
func (o *outputLine) Active() (bool, error) { return readLine(o.m.kernel, o.id, o.file) }

// Handle returns a copy of the kernel's handle on the line. The line stays driven while
// the copy is open, in any process.
func (o *outputLine) Handle() (*os.File, error) {
	raw, err := o.file.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("copy handle of line %s: %w", o.id, err)
	}
	var fd int
	var failed error
	if err := raw.Control(func(own uintptr) { fd, failed = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 3) }); err != nil {
		failed = err
	}
	if failed != nil {
		return nil, fmt.Errorf("copy handle of line %s: %w", o.id, failed)
	}
	return os.NewFile(uintptr(fd), o.file.Name()), nil
}

// Close releases the line.
func (o *outputLine) Close() error {
	if err := o.file.Close(); err != nil {
		return fmt.Errorf("close line %s: %w", o.id, err)
	}
	return nil
}
