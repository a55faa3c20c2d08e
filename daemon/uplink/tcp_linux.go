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

// tune sets TCP_USER_TIMEOUT on a socket before it connects. A kernel that
// does not know it loses nothing but time.
func tune(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
	})
}

// dialTCP opens a connection whose kernel acknowledges at once what comes.
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

// promptConn acknowledges at once what comes (TCP_QUICKACK, tcp(7)). A broker that does
// not set TCP_NODELAY, such as a mosquitto as it is shipped, sends a small packet only
// once the one before is acknowledged, and the kernel may delay that by 40 ms. The
// option does not last, because each packet that we send resets it.
type promptConn struct {
	*net.TCPConn
	raw syscall.RawConn
}

// Read reads, and acknowledges what it has read.
func (c *promptConn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	if n > 0 {
		// An error shows at the next read.
		_ = c.raw.Control(acknowledge)
	}
	return n, err
}

// acknowledge has a socket's kernel send the acknowledgement that it holds back.
func acknowledge(fd uintptr) {
	_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
}
