package uplink

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

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

// promptPair returns a connection of dialTCP and its other end.
func promptPair(t *testing.T) (c *promptConn, far *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	near, err := dialTCP(t.Context(), "tcp", l.Addr().String())
	must(t, err)
	other, err := l.Accept()
	must(t, err)
	t.Cleanup(func() {
		near.Close()
		other.Close()
	})
	return near.(*promptConn), other.(*net.TCPConn)
}

// All bytes arrive, in order, also where the socket takes only a part of them at a time.
func TestLargeWrite(t *testing.T) {
	c, far := promptPair(t)
	sent := make([]byte, 32<<20)
	for i := range sent {
		sent[i] = byte(i >> 8)
	}
	must(t, c.SetWriteDeadline(time.Now().Add(patience)))
	got := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(far) // what is missing shows
		got <- b
	}()
	n, err := c.Write(sent)
	must(t, err)
	must(t, c.CloseWrite())
	if b := <-got; n != len(sent) || !bytes.Equal(b, sent) {
		t.Errorf("%d of %d bytes were written, %d came", n, len(sent), len(b))
	}
	for range 2 {
		if n, err := c.Write([]byte("late")); n != 0 || !wasReset(err) {
			t.Errorf("a write after the end: %d, %v", n, err)
		}
	}
}

// A write that waits for room ends at its deadline, also at one that is set meanwhile. After a
// deadline that is over, nothing is written.
func TestWriteDeadline(t *testing.T) {
	c, far := promptPair(t)
	large := make([]byte, 32<<20) // more than both sockets take
	must(t, c.SetWriteDeadline(time.Now().Add(time.Millisecond)))
	if n, err := c.Write(large); n == len(large) || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes, %v", n, err)
	}
	must(t, c.SetDeadline(time.Now().Add(patience)))
	ended := make(chan error)
	go func() {
		_, err := c.Write(large)
		ended <- err
	}()
	for waits := false; !waits; runtime.Gosched() {
		c.deadline.mu.Lock()
		waits = c.deadline.waits
		c.deadline.mu.Unlock()
	}
	must(t, c.SetWriteDeadline(time.Now()))
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a deadline that is set meanwhile: %v", err)
	}
	if n, err := c.Write(nil); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the deadline: %d, %v", n, err)
	}
	must(t, far.Close())
}

// Reads end as those of a TCPConn do.
func TestReadsOfPromptConn(t *testing.T) {
	c, far := promptPair(t)
	must(t, c.SetReadDeadline(time.Now()))
	var e *net.OpError
	if _, err := c.Read(make([]byte, 8)); !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &e) || e.Op != "read" {
		t.Errorf("after the deadline: %v", err)
	}
	must(t, c.SetReadDeadline(time.Time{}))
	_, err := far.Write([]byte("some"))
	must(t, err)
	must(t, far.CloseWrite())
	if b, err := io.ReadAll(c); string(b) != "some" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	must(t, c.Close())
	if _, err := c.Read(make([]byte, 8)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed one: %v", err)
	}
	if _, err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed one: %v", err)
	}
	c, far = promptPair(t)
	must(t, far.SetLinger(0))
	must(t, far.Close())
	if _, err := c.Read(make([]byte, 8)); !wasReset(err) || !strings.Contains(err.Error(), "read tcp 127.0.0.1:") {
		t.Errorf("a reset: %v", err)
	}
}
