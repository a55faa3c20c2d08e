package uplink

import (
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
