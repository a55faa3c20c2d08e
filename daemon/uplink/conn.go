package uplink

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// writeTimeout bounds every single write: with it a peer that has stalled is
// found in seconds, and without it the kernel would wait a quarter of an hour.
const writeTimeout = 5 * time.Second

// conn is a connection as the protocol client sees it. It checks what comes
// (see guard), bounds every write, and remembers what ended it first and
// which side that was.
type conn struct {
	raw   net.Conn // beneath TLS
	tls   net.Conn
	guard guard
	rest  []byte // of the packet that the protocol client is reading
	// What the protocol client is not given.
	acks    acks
	subacks subacks
	unacked atomic.Int32 // messages to us that are not acknowledged

	mu     sync.Mutex
	cause  error         // what ended it, the first
	remote bool          // the other side did
	down   chan struct{} // closed when it has ended
	flow   traffic
}

// traffic is what has gone over a connection, and when.
type traffic struct {
	sent  time.Time // when something was last written
	heard time.Time // when a packet last came
	pong  time.Time // when a PINGRESP last came
	large time.Time // when a part of a message last came that takes long, or is too large
	ended time.Time
	// gap is the longest time without anything before what was sent and after which
	// nothing has come; survived is the longest after which something has.
	gap, survived time.Duration
}

// newConn wraps a TLS connection over raw.
func newConn(raw, tls net.Conn) *conn {
	c := &conn{raw: raw, tls: tls, acks: acks{ready: make(chan struct{}, 1)}, subacks: subacks{ready: make(chan struct{}, 1)}, down: make(chan struct{})}
	c.guard.r = bufio.NewReaderSize(tls, 2048)
	return c
}

// Read gives the bytes of checked packets, but for messages, PUBACKs, SUBACKs and UNSUBACKs.
// While a message takes long to come it gives PINGRESPs, for bytes that come are as
// good a sign of life, and the real one is behind them. After the connection has
// ended it gives what ended it.
func (c *conn) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		packet, err := c.guard.next()
		if err != nil {
			return 0, c.ended(err)
		}
		if packet == nil {
			c.busy()
			c.rest = alive
			break
		}
		c.heard(packet[0] >> 4)
		switch packet[0] >> 4 {
		case puback:
			if !c.acks.put(binary.BigEndian.Uint16(packet[len(packet)-2:])) {
				return 0, c.ended(errPubacks)
			}
		case suback:
			c.subacks.put(binary.BigEndian.Uint16(packet[len(packet)-3:]), packet[len(packet)-1])
		case unsuback:
			c.subacks.put(binary.BigEndian.Uint16(packet[len(packet)-2:]), 0)
		default:
			c.rest = packet
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// heard notes that a packet has come.
func (c *conn) heard(kind byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flow.heard = time.Now()
	c.flow.survived, c.flow.gap = max(c.flow.survived, c.flow.gap), 0
	if kind == pingresp {
		c.flow.pong = c.flow.heard
	}
}

// sending notes that something is sent.
func (c *conn) sending(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &c.flow
	if !t.heard.IsZero() {
		t.gap = max(t.gap, now.Sub(later(t.sent, t.heard)))
	}
	t.sent = now
}

// busy notes that a part of a large message has come. What the broker has sent after
// it is behind it.
func (c *conn) busy() {
	c.heard(publish)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flow.large = c.flow.heard
}

// since says since when an answer to what was sent then could have been here: the
// time that large messages take before it does not count, up to an hour.
func (c *conn) since(sent time.Time) time.Time {
	if time.Since(sent) > time.Hour {
		return sent
	}
	return later(sent, c.traffic().large)
}

// traffic says what has gone over the connection so far. Any goroutine.
func (c *conn) traffic() traffic {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.flow
}

// Write sends with a deadline of its own.
func (c *conn) Write(p []byte) (int, error) {
	c.sending(time.Now())
	if err := c.tls.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, c.ended(err)
	}
	n, err := c.tls.Write(p)
	if err == nil {
		return n, nil
	}
	if hungUp(err) {
		err = c.lastWords(err)
	}
	return n, c.ended(err)
}

// lastWords lets what the other side said before it hung up be read, once a
// write has found that it did. Before the CONNACK that may be a TLS alert:
// with TLS 1.3 the one about our certificate comes after the handshake. Later
// it may be acknowledgements, and the reader is there to take them.
func (c *conn) lastWords(err error) error {
	if !c.guard.connected {
		if _, said := c.tls.Read(make([]byte, 1)); isAlert(said) {
			return said
		}
		return err
	}
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	select {
	case <-c.down:
	case <-timer.C:
	}
	return err
}

// ended notes what ended the connection and gives the first such note.
func (c *conn) ended(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause == nil {
		c.cause = err
		c.flow.ended = time.Now()
		c.remote = hungUp(err) || isAlert(err)
		close(c.down)
	}
	return c.cause
}

// fail ends the connection at once for a reason of our own: no DISCONNECT and
// nothing that could block.
func (c *conn) fail(err error) {
	c.ended(err)
	c.raw.Close()
}

// Close is the protocol client's. Only where nothing is wrong does it take
// leave in TLS, which may block.
func (c *conn) Close() error {
	if c.ended(net.ErrClosed) != net.ErrClosed {
		return c.raw.Close()
	}
	return c.tls.Close()
}

// end says what ended the connection, nil if nothing has, and whether the
// other side did.
func (c *conn) end() (err error, remote bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause, c.remote
}

// over reports whether the connection has ended.
func (c *conn) over() bool {
	select {
	case <-c.down:
		return true
	default:
		return false
	}
}

// SetDeadline sets the deadline of reads; writes have their own.
func (c *conn) SetDeadline(t time.Time) error { return c.tls.SetReadDeadline(t) }

// SetReadDeadline sets the deadline of reads.
func (c *conn) SetReadDeadline(t time.Time) error { return c.tls.SetReadDeadline(t) }

// SetWriteDeadline does nothing: the protocol client would clear the deadline
// after each publish and leave its pings without one.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

// LocalAddr is our address.
func (c *conn) LocalAddr() net.Addr { return c.tls.LocalAddr() }

// RemoteAddr is the broker's address.
func (c *conn) RemoteAddr() net.Addr { return c.tls.RemoteAddr() }

// hungUp reports whether err says that the other side ended the connection.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || wasReset(err)
}

// wasReset reports whether the other side ended it without reading what we had
// sent.
func wasReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNABORTED)
}

// isAlert reports whether err is a TLS alert that the other side sent. The
// type of the alert itself is not exported by crypto/tls.
func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}
