package uplink

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

// pipe is one end of a connection in memory that behaves like a socket: it has a buffer
// in each direction, and closing it with unread data resets the connection.
type pipe struct {
	in, out *stream
}

// newPipe returns both ends.
func newPipe() (near, far net.Conn) {
	a, b := newStream(), newStream()
	return &pipe{in: a, out: b}, &pipe{in: b, out: a}
}

func (p *pipe) Read(b []byte) (int, error) { return p.in.read(b) }

func (p *pipe) Write(b []byte) (int, error) { return p.out.write(b) }

func (p *pipe) Close() error {
	unread := p.in.stop()
	p.out.finish(unread)
	return nil
}

// reset closes the pipe like the kernel with unread data.
func (p *pipe) reset() {
	p.in.stop()
	p.out.finish(true)
}

func (p *pipe) SetDeadline(t time.Time) error {
	p.in.expire(t, &p.in.readBy)
	p.out.expire(t, &p.out.writeBy)
	return nil
}

func (p *pipe) SetReadDeadline(t time.Time) error {
	p.in.expire(t, &p.in.readBy)
	return nil
}

func (p *pipe) SetWriteDeadline(t time.Time) error {
	p.out.expire(t, &p.out.writeBy)
	return nil
}

func (p *pipe) LocalAddr() net.Addr { return &net.TCPAddr{} }

func (p *pipe) RemoteAddr() net.Addr { return &net.TCPAddr{} }

// room is the buffer size of a stream.
const room = 64 << 10

// stream is one direction.
type stream struct {
	mu              sync.Mutex
	change          *sync.Cond
	data            []byte
	end             error // set when the writer has closed: what the reader gets after the data
	stopped         bool  // the reader has closed
	writerClosed    bool
	readBy, writeBy time.Time
}

func newStream() *stream {
	s := &stream{}
	s.change = sync.NewCond(&s.mu)
	return s
}

func past(t time.Time) bool { return !t.IsZero() && !time.Now().Before(t) }

func (s *stream) read(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.stopped:
			return 0, net.ErrClosed
		case past(s.readBy):
			return 0, os.ErrDeadlineExceeded
		case len(s.data) > 0:
			n := copy(b, s.data)
			s.data = s.data[n:]
			s.change.Broadcast()
			return n, nil
		case s.end != nil:
			return 0, s.end
		}
		s.change.Wait()
	}
}

func (s *stream) write(b []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(b) > 0 {
		switch {
		case s.writerClosed:
			return n, net.ErrClosed
		case s.stopped:
			return n, syscall.EPIPE
		case past(s.writeBy):
			return n, os.ErrDeadlineExceeded
		}
		if m := min(len(b), room-len(s.data)); m > 0 {
			s.data = append(s.data, b[:m]...)
			n, b = n+m, b[m:]
			s.change.Broadcast()
			continue
		}
		s.change.Wait()
	}
	return n, nil
}

// stop is the reader's close. It reports whether data was unread.
func (s *stream) stop() (unread bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	unread = len(s.data) > 0
	s.stopped = true
	s.change.Broadcast()
	return unread
}

// finish is the writer's close.
func (s *stream) finish(reset bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writerClosed = true
	if s.end == nil {
		s.end = io.EOF
		if reset {
			s.end = syscall.ECONNRESET
		}
	}
	s.change.Broadcast()
}

func (s *stream) expire(t time.Time, by *time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*by = t
	s.change.Broadcast()
	if wait := time.Until(t); !t.IsZero() && wait > 0 {
		time.AfterFunc(wait, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.change.Broadcast()
		})
	}
}

func TestPipeBehavesAsASocket(t *testing.T) {
	near, far := newPipe()
	if n, err := near.Write([]byte("ab")); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	b := make([]byte, 1)
	if n, err := far.Read(b); n != 1 || err != nil || b[0] != 'a' {
		t.Fatal(n, err)
	}
	must(t, far.Close()) // one byte is unread
	if _, err := near.Read(b); err != syscall.ECONNRESET {
		t.Errorf("read after a reset: %v", err)
	}
	if _, err := near.Write(b); err != syscall.EPIPE {
		t.Errorf("write after a reset: %v", err)
	}
}
