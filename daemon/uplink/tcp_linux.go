package uplink

import (
	"context"
	"net"
	"syscall"
	"time"

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
	return &promptConn{TCPConn: tcp, raw: raw}, nil
}

// promptConn acknowledges received data immediately (TCP_QUICKACK, tcp(7)). A broker that
// does not set TCP_NODELAY, such as mosquitto with its default configuration, sends a small
// packet only after the previous one is acknowledged, and the kernel may delay that by 40 ms.
// The option must be set again and again, because each packet that we send resets it.
type promptConn struct {
	*net.TCPConn
	raw syscall.RawConn
}

// Read reads, and acknowledges what it has read.
func (c *promptConn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	if n > 0 {
		// An error appears at the next read.
		_ = c.raw.Control(acknowledge)
	}
	return n, err
}

// acknowledge makes a socket's kernel send a delayed acknowledgement.
func acknowledge(fd uintptr) {
	_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
}
