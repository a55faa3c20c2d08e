package uplink

import (
	"io"
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// quickAck reports whether the kernel acknowledges data on c at once.
func quickAck(t *testing.T, c net.Conn) bool {
	t.Helper()
	raw, err := c.(interface {
		SyscallConn() (syscall.RawConn, error)
	}).SyscallConn()
	must(t, err)
	value := 0
	must(t, raw.Control(func(fd uintptr) {
		value, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK)
	}))
	must(t, err)
	return value == 1
}

// After each read the kernel acknowledges at once, also after so many requests and
// answers that it would delay by default.
func TestReadsAreAcknowledgedAtOnce(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if c, err := l.Accept(); err == nil {
			_, _ = io.Copy(c, c)
			c.Close()
		}
	}()
	c, err := dialTCP(t.Context(), "tcp", l.Addr().String())
	must(t, err)
	for range 50 {
		_, err = c.Write([]byte("question"))
		must(t, err)
		_, err = io.ReadFull(c, make([]byte, len("question")))
		must(t, err)
		if !quickAck(t, c) {
			t.Fatal("the acknowledgement of what was read is delayed")
		}
	}
	must(t, c.Close())
	<-ended
}
