package local

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"fieldpost/daemon/api"
)

// conn is a connection of a client. The server's mu guards all fields except the first two.
type conn struct {
	net.Conn
	server *Server

	from    Peer
	stage   stage
	cancel  context.CancelFunc // cancels its call
	gone    bool               // it must make room for another
	mute    bool               // no more is read from it
	handled bool               // the header of a request has arrived, and the next one is not awaited yet
	idle    bool               // it has received an answer and sent nothing since
}

// tooMany is the answer to a connection that is closed to make room for another.
func tooMany() *api.Error {
	return &api.Error{Code: api.Busy, Text: fmt.Sprintf("%d connections of this user are waiting, and this one has not sent a request yet", userWaitingMax), Hint: "Try again."}
}

// Read reads for net/http. If the connection must make room before the header of a request
// has arrived, net/http would close it without an answer, so Read answers.
func (c *conn) Read(p []byte) (n int, err error) {
	if !c.server.others.Call("local request", func() { n, err = c.read(p) }) {
		return 0, net.ErrClosed
	}
	return n, err
}

func (c *conn) read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.server.mu.Lock()
	if n > 0 {
		c.idle = false
	}
	tell := c.gone && !c.handled && !c.idle && errors.Is(err, os.ErrDeadlineExceeded)
	c.server.mu.Unlock()
	if tell {
		body := encode(api.ErrorAnswer{Error: tooMany()})
		_ = c.SetWriteDeadline(time.Now().Add(patience))
		_, _ = fmt.Fprintf(c.Conn, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nConnection: close\r\nRetry-After: 1\r\nContent-Length: %d\r\n\r\n%s",
			http.StatusServiceUnavailable, http.StatusText(http.StatusServiceUnavailable), len(body), body)
		_ = c.CloseWrite() // net/http has nothing to send
	}
	return n, err
}

// SetReadDeadline is called by net/http to limit a request's time. It has no effect after
// muteLocked.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	if c.mute {
		return nil
	}
	return c.Conn.SetReadDeadline(t)
}

// CloseWrite tells the client that the answer is complete.
func (c *conn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

// muteLocked ends all reading from the connection, immediately and for good.
func (c *conn) muteLocked() {
	c.mute = true
	_ = c.Conn.SetReadDeadline(time.Now()) // if this fails, reading fails too
}
