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

// conn is a connection of a client. Its fields but the first two are guarded by
// the server's mu.
type conn struct {
	net.Conn
	server *Server

	from    Peer
	stage   stage
	cancel  context.CancelFunc // of its call
	gone    bool               // it was asked to give up its place
	mute    bool               // nothing more is read from it
	handled bool               // the header of a request has come, and no later one is awaited
	idle    bool               // it has had an answer, and has sent nothing since
}

// tooMany is what a connection is told that gives way.
func tooMany() *api.Error {
	return &api.Error{Code: api.Busy, Text: fmt.Sprintf("%d connections of this user wait, and this one had asked for nothing yet", userWaitingMax), Hint: "Try again."}
}

// Read reads for net/http. Where the connection was asked to go before the
// header of a request has come, net/http would close it without a word, so it
// is answered here.
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
		_ = c.CloseWrite() // net/http has nothing to add
	}
	return n, err
}

// SetReadDeadline is what net/http bounds a request with. It changes nothing
// once the reading has been ended for good.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	if c.mute {
		return nil
	}
	return c.Conn.SetReadDeadline(t)
}

// CloseWrite tells the client that all of an answer has been sent.
func (c *conn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

// muteLocked ends all reading from the connection, at once and for good.
func (c *conn) muteLocked() {
	c.mute = true
	_ = c.Conn.SetReadDeadline(time.Now()) // where it fails, so does the reading
}
