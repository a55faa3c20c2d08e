package uplink

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// userTimeout is how long sent bytes may stay unacknowledged by the peer's
// kernel before the connection counts as broken (RFC 5482, tcp(7)).
const userTimeout = 20 * time.Second

// tune sets TCP_USER_TIMEOUT on a socket before it connects. On a kernel that does not
// support it, a dead peer is only noticed later.
func tune(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
	})
}

// dialTCP opens a connection whose kernel acknowledges received data immediately.
func dialTCP(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := (&net.Dialer{Control: tune}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return c, nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return c, nil // without it the connection is only slower
	}
	return newPromptConn(tcp, raw), nil
}

// promptConn acknowledges received data immediately (TCP_QUICKACK, tcp(7)). A broker that
// does not set TCP_NODELAY, such as mosquitto with its default configuration, sends a small
// packet only after the previous one is acknowledged, and the kernel may delay that by 40 ms.
// The option must be set again and again, because each packet that we send resets it.
//
// It reads and writes without telling Go's scheduler of a system call, which would wake
// Go's monitor thread up each time. That is for calls that may block, and these cannot:
// the socket is non-blocking.
type promptConn struct {
	*net.TCPConn
	raw      syscall.RawConn
	in, out  transfer
	deadline writeDeadline
}

func newPromptConn(tcp *net.TCPConn, raw syscall.RawConn) *promptConn {
	c := &promptConn{TCPConn: tcp, raw: raw}
	c.in.step = c.in.read
	c.out.step, c.out.once = c.out.write, func(fd uintptr) bool { c.out.write(fd); return true }
	return c
}

// transfer is a read or a write that is under way.
type transfer struct {
	mu         sync.Mutex
	step, once func(fd uintptr) bool // for a syscall.RawConn; made once
	p          []byte                // what is left
	n          int                   // bytes transferred
	errno      syscall.Errno
}

// read reads once. It reports whether there was anything to read.
func (t *transfer) read(fd uintptr) (done bool) {
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(t.p))), uintptr(len(t.p)))
		switch errno {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false
		case 0:
			t.n = int(n)
			if n > 0 {
				acknowledge(fd)
			}
		}
		t.errno = errno
		return true
	}
}

// acknowledge makes a socket's kernel send a delayed acknowledgement. An error appears at the
// next read.
func acknowledge(fd uintptr) {
	on := int32(1)
	_, _, _ = unix.RawSyscall6(unix.SYS_SETSOCKOPT, fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, uintptr(unsafe.Pointer(&on)), unsafe.Sizeof(on), 0)
}

// write writes as much as the socket takes. It reports whether that was all.
func (t *transfer) write(fd uintptr) (done bool) {
	for len(t.p) > 0 {
		n, _, errno := unix.RawSyscall(unix.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(t.p))), uintptr(len(t.p)))
		switch errno {
		case 0:
			t.p, t.n = t.p[n:], t.n+int(n)
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			t.errno = errno
			return true
		}
	}
	return true
}

// Read implements [net.Conn].
func (c *promptConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	t := &c.in
	t.mu.Lock()
	defer t.mu.Unlock()
	t.p, t.n, t.errno = p, 0, 0
	err := c.raw.Read(t.step)
	t.p = nil
	switch {
	case err != nil:
		return 0, c.failed("read", err)
	case t.errno != 0:
		return 0, c.failed("read", os.NewSyscallError("read", t.errno))
	case t.n == 0:
		return 0, io.EOF
	}
	return t.n, nil
}

// Write implements [net.Conn].
func (c *promptConn) Write(p []byte) (int, error) {
	t := &c.out
	t.mu.Lock()
	defer t.mu.Unlock()
	t.p, t.n, t.errno = p, 0, 0
	defer func() { t.p = nil }()
	if c.deadline.isOver() {
		return 0, c.failed("write", os.ErrDeadlineExceeded)
	}
	err := c.raw.Write(t.once)
	if err == nil && t.errno == 0 && len(t.p) > 0 {
		c.deadline.begin(c.TCPConn)
		err = c.raw.Write(t.step)
		c.deadline.end(c.TCPConn)
	}
	switch {
	case err != nil:
		return t.n, c.failed("write", err)
	case t.errno != 0:
		return t.n, c.failed("write", os.NewSyscallError("write", t.errno))
	}
	return t.n, nil
}

// failed is the error of an operation, as a [net.TCPConn] has it.
func (c *promptConn) failed(op string, err error) error {
	var raw *net.OpError
	if errors.As(err, &raw) { // of the syscall.RawConn: "raw-read"
		err = raw.Err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

// SetDeadline implements [net.Conn].
func (c *promptConn) SetDeadline(at time.Time) error {
	return errors.Join(c.SetReadDeadline(at), c.SetWriteDeadline(at))
}

// SetWriteDeadline implements [net.Conn]. The deadline becomes a timer only while a write waits
// for room, as each timer wakes the process up when it would have been over.
func (c *promptConn) SetWriteDeadline(at time.Time) error { return c.deadline.set(c.TCPConn, at) }

// writeDeadline is a deadline that a connection has only while a write waits.
type writeDeadline struct {
	mu    sync.Mutex
	at    time.Time // zero: none
	waits bool
}

func (d *writeDeadline) set(c *net.TCPConn, at time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at = at
	if d.waits {
		return c.SetWriteDeadline(at)
	}
	return nil
}

func (d *writeDeadline) isOver() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.at.IsZero() && !time.Now().Before(d.at)
}

// begin gives the connection the deadline; an error shows at the write.
func (d *writeDeadline) begin(c *net.TCPConn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waits = true
	_ = c.SetWriteDeadline(d.at)
}

// end takes the deadline back.
func (d *writeDeadline) end(c *net.TCPConn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waits = false
	_ = c.SetWriteDeadline(time.Time{})
}
