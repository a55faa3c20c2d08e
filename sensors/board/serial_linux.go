package board

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// bauds are the rates of serial ports (termios(3)).
var bauds = map[int]uint32{
	1200: unix.B1200, 2400: unix.B2400, 4800: unix.B4800, 9600: unix.B9600, 19200: unix.B19200,
	38400: unix.B38400, 57600: unix.B57600, 115200: unix.B115200,
}

// writeWithin is how long a write may take. Only a broken adapter needs that long: there
// is no flow control.
const writeWithin = time.Second

// serialPort is a terminal in raw mode.
type serialPort struct {
	name string
	file *os.File
}

// Serial opens a serial port. A name such as ttyUSB0 means the same adapter again after the
// kernel has given that another number; see serialPlaces.
func (m *Machine) Serial(c SerialConfig) (Serial, error) {
	name := c.Device
	c.Device = m.ports.find(m.root, name)
	p, err := openSerial(m.dev, c)
	if err != nil {
		return nil, err
	}
	m.ports.note(m.root, name, c.Device)
	return p, nil
}

func openSerial(dev string, c SerialConfig) (*serialPort, error) {
	name := strings.TrimPrefix(c.Device, "/dev/")
	path := filepath.Join(dev, name)
	rate, ok := bauds[c.Baud]
	parity, known := parities[c.Parity]
	if !ok || !known {
		return nil, fmt.Errorf("open %s: no port has %d baud and parity %q", visible(name), c.Baud, string(c.Parity))
	}
	// Non-blocking, so that a port without a carrier opens, and reads can have a
	// deadline.
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, deviceError(name, path, "dialout", absentPort(name), err)
	}
	if err := setRaw(f, rate, parity); err != nil {
		return nil, errors.Join(fmt.Errorf("set %s to %d baud: %w", visible(name), c.Baud, err), f.Close())
	}
	return &serialPort{name, f}, nil
}

// absentPort says what to do about a port that is not there.
func absentPort(name string) string {
	if isUSBPort(name) {
		return "plug its adapter in; if it has another number now, use its link in /dev/serial/by-id, which stays the same"
	}
	return "on a Raspberry Pi enable the serial port, without a console on it, in raspi-config"
}

// parities are the flags of termios(3). A byte with a wrong parity passes: what is sent with
// parity has a checksum too.
var parities = map[Parity]uint32{"": 0, ParityNone: 0, ParityEven: unix.PARENB, ParityOdd: unix.PARENB | unix.PARODD}

// setRaw makes the port pass bytes as they are, of eight bits with one stop bit.
func setRaw(f *os.File, rate, parity uint32) error {
	return control(f, func(fd uintptr) error {
		t, err := unix.IoctlGetTermios(int(fd), unix.TCGETS)
		if err != nil {
			return err
		}
		t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
		t.Cflag = unix.CS8 | unix.CREAD | unix.CLOCAL | rate | parity
		t.Ispeed, t.Ospeed = rate, rate
		t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
		return unix.IoctlSetTermios(int(fd), unix.TCSETS, t)
	})
}

// String returns the port's name.
func (p *serialPort) String() string { return p.name }

// Write sends bytes.
func (p *serialPort) Write(b []byte) error {
	if err := p.file.SetWriteDeadline(time.Now().Add(writeWithin)); err != nil {
		return p.deadlineError(err)
	}
	_, err := p.file.Write(b)
	return p.explain("write to", err)
}

// Read fills b, or returns what has come after within.
func (p *serialPort) Read(b []byte, within time.Duration) (int, error) {
	if err := p.file.SetReadDeadline(time.Now().Add(within)); err != nil {
		return 0, p.deadlineError(err)
	}
	n, err := io.ReadFull(p.file, b)
	return n, p.explain("read from", err)
}

// Discard drops the bytes that were received and not read.
func (p *serialPort) Discard() error {
	return p.explain("discard what came from", control(p.file, func(fd uintptr) error {
		return unix.IoctlSetInt(int(fd), unix.TCFLSH, unix.TCIFLUSH)
	}))
}

// deadlineError says why a file takes no deadline: it is closed, or no terminal.
func (p *serialPort) deadlineError(err error) error {
	if !errors.Is(err, os.ErrNoDeadline) {
		err = os.ErrClosed // the package's own error for that is not exported
	}
	return fmt.Errorf("use %s: %w", p.name, err)
}

// explain says what an error means. Reading a port that was unplugged ends with io.EOF or
// EIO.
func (p *serialPort) explain(verb string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.EIO), errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.ENXIO):
		return fmt.Errorf("%s %s: %w: its adapter was unplugged (%w)", verb, p.name, ErrAbsent, err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return os.ErrDeadlineExceeded
	}
	return fmt.Errorf("%s %s: %w", verb, p.name, err)
}

// Close closes the port.
func (p *serialPort) Close() error {
	if err := p.file.Close(); err != nil {
		return fmt.Errorf("close %s: %w", p.name, err)
	}
	return nil
}
