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

	"fieldpost/daemon/task"
	"fieldpost/daemon/wake"
)

// writeTimeout bounds every write, so that a stalled peer is detected within seconds. Without
// it the kernel would wait for a quarter of an hour.
const writeTimeout = 5 * time.Second

// transport is the TLS connection as the protocol client sees it. It checks every incoming
// packet (see packetReader), handles messages and acknowledgements itself, bounds every
// write, and records what ended the connection first, and which side.
type transport struct {
	raw    net.Conn // the connection under TLS
	tls    net.Conn
	others *task.Group // the protocol client's goroutines, which call us; may be nil
	reader packetReader
	rest   []byte // the rest of the packet that the protocol client is reading
	// keepAlive is put into the CONNECT, in seconds. The protocol client is configured
	// without one, because it would ping with a ticker of its own.
	keepAlive uint16

	// Packets that the protocol client does not get.
	pubacks pubacks
	subacks subacks
	unacked atomic.Int32 // unacknowledged messages from the broker

	ids packetIDs // of packets that we send; Run's goroutine

	mu       sync.Mutex
	cause    error         // what ended it first
	remote   bool          // the other side ended it
	down     chan struct{} // closed when it has ended
	activity traffic
}

// traffic says when data was sent and received on a connection.
type traffic struct {
	sent  time.Time // when we last wrote
	heard time.Time // when a packet last came
	pong  time.Time // when a PINGRESP last came
	// large is when the last part came of a message that takes long or is too large.
	large time.Time
	ended time.Time
	// gap is the longest silence before a write after which nothing has come; survived is the
	// longest one after which something has.
	gap, survived time.Duration
}

// newTransport wraps a TLS connection over raw.
func newTransport(raw, tls net.Conn) *transport {
	t := &transport{raw: raw, tls: tls, pubacks: pubacks{ready: wake.New()}, subacks: subacks{ready: wake.New()}, down: make(chan struct{})}
	t.reader.r = bufio.NewReaderSize(tls, 2048)
	return t
}

// Read returns the bytes of the CONNACK to the protocol client, once it is checked, and
// handles everything after it. After the connection has ended, it returns what ended it.
func (t *transport) Read(p []byte) (n int, err error) {
	if !t.others.Call("packet reader", func() { n, err = t.read(p) }) {
		return 0, t.ended(errOurs)
	}
	return n, err
}

func (t *transport) read(p []byte) (int, error) {
	for len(t.rest) == 0 {
		packet, err := t.reader.readPacket()
		if err != nil {
			return 0, t.ended(err)
		}
		if packet == nil {
			t.notePartReceived()
			continue
		}
		t.noteReceived(packet[0] >> 4)
		switch packet[0] >> 4 {
		case puback:
			if !t.pubacks.add(binary.BigEndian.Uint16(packet[len(packet)-2:])) {
				return 0, t.ended(errPubacks)
			}
		case suback:
			t.subacks.set(binary.BigEndian.Uint16(packet[len(packet)-3:]), packet[len(packet)-1])
		case unsuback:
			t.subacks.set(binary.BigEndian.Uint16(packet[len(packet)-2:]), 0)
		case connack:
			t.rest = packet
		}
	}
	n := copy(p, t.rest)
	t.rest = t.rest[n:]
	return n, nil
}

// noteReceived records that a packet has come.
func (t *transport) noteReceived(kind byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.activity.heard = time.Now()
	t.activity.survived, t.activity.gap = max(t.activity.survived, t.activity.gap), 0
	if kind == pingresp {
		t.activity.pong = t.activity.heard
	}
}

// noteSent records a write.
func (t *transport) noteSent(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := &t.activity
	if !a.heard.IsZero() {
		a.gap = max(a.gap, now.Sub(later(a.sent, a.heard)))
	}
	a.sent = now
}

// notePartReceived records that a part of a large message has come. Everything that the
// broker has sent since is behind that message.
func (t *transport) notePartReceived() {
	t.noteReceived(publish)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.activity.large = t.activity.heard
}

// answerableSince returns when an answer to a request sent at sent became possible: the time
// that large messages before it take does not count, up to an hour.
func (t *transport) answerableSince(sent time.Time) time.Time {
	if time.Since(sent) > time.Hour {
		return sent
	}
	return later(sent, t.traffic().large)
}

// traffic returns the traffic of the connection so far. Any goroutine.
func (t *transport) traffic() traffic {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.activity
}

// Write writes, and gives up after writeTimeout.
func (t *transport) Write(p []byte) (n int, err error) {
	if !t.others.Call("packet writer", func() { n, err = t.write(p) }) {
		return 0, t.ended(errOurs)
	}
	return n, err
}

func (t *transport) write(p []byte) (int, error) {
	if len(p) > 0 && p[0] == connect<<4 {
		p = withKeepAlive(p, t.keepAlive)
	}
	t.noteSent(time.Now())
	if err := t.tls.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, t.ended(err)
	}
	n, err := t.tls.Write(p)
	if err == nil {
		return n, nil
	}
	if endedByPeer(err) {
		err = t.awaitLastPackets(err)
	}
	return n, t.ended(err)
}

// awaitLastPackets waits, after a failed write, until what the other side sent before it
// closed has been read. Before the CONNACK that may be a TLS alert: with TLS 1.3 the one
// about our certificate comes after the handshake. Later it may be acknowledgements, and the
// reading goroutine handles them.
func (t *transport) awaitLastPackets(err error) error {
	if !t.reader.connected {
		if _, said := t.tls.Read(make([]byte, 1)); isAlert(said) {
			return said
		}
		return err
	}
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	select {
	case <-t.down:
	case <-timer.C:
	}
	return err
}

// ended records what ended the connection, and returns what ended it first.
func (t *transport) ended(err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cause == nil {
		t.cause = err
		t.activity.ended = time.Now()
		t.remote = endedByPeer(err) || isAlert(err)
		close(t.down)
	}
	return t.cause
}

// fail ends the connection immediately, for a reason of ours, without a DISCONNECT. It does
// not block.
func (t *transport) fail(err error) {
	t.ended(err)
	t.raw.Close()
}

// Close is for the protocol client. It sends TLS's close_notify alert, which may block, only
// if nothing has failed.
func (t *transport) Close() error {
	if t.ended(net.ErrClosed) != net.ErrClosed {
		return t.raw.Close()
	}
	return t.tls.Close()
}

// endedBy returns what ended the connection, nil if nothing has, and whether the other side did.
func (t *transport) endedBy() (err error, remote bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.cause, t.remote
}

// over reports whether the connection has ended.
func (t *transport) over() bool {
	select {
	case <-t.down:
		return true
	default:
		return false
	}
}

// SetDeadline sets the deadline of reads; writes have their own.
func (t *transport) SetDeadline(at time.Time) error { return t.tls.SetReadDeadline(at) }

// SetReadDeadline sets the deadline of reads.
func (t *transport) SetReadDeadline(at time.Time) error { return t.tls.SetReadDeadline(at) }

// SetWriteDeadline does nothing: the protocol client would clear the deadline
// after each publish and leave its pings without one.
func (t *transport) SetWriteDeadline(time.Time) error { return nil }

// LocalAddr returns our address.
func (t *transport) LocalAddr() net.Addr { return t.tls.LocalAddr() }

// RemoteAddr returns the broker's address.
func (t *transport) RemoteAddr() net.Addr { return t.tls.RemoteAddr() }

// endedByPeer reports whether err says that the other side ended the connection.
func endedByPeer(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || wasReset(err)
}

// wasReset reports whether the other side ended the connection without reading everything we
// had sent.
func wasReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNABORTED)
}

// isAlert reports whether err is a TLS alert from the other side. crypto/tls does not export
// the type of the alert.
func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}
