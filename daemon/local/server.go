package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os/user"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"fieldpost/daemon/health"
)

const (
	patience = 5 * time.Second  // for a request to come, and for an answer to be taken
	hurry    = time.Second / 2  // for an answer to be taken while the server ends
	again    = 30 * time.Second // until a socket that could not be opened is tried again, and how often one is looked after
	pause    = time.Second      // after the system gave no connection
	spill    = 64 << 20         // bytes of a request over the limit that are read past, so that its answer is not lost
)

// subject is what the server's fault is about.
const subject = "local"

// Call answers one call. with is what the client gave, nil for nothing. The
// error is for the client: an [*Error], or any other, which it gets as
// [Internal]. ctx ends when the server does; a call bounds its own time. Calls
// are made from several goroutines at a time.
type Call func(ctx context.Context, from Peer, with json.RawMessage) (result any, err error)

// Options is what a server is made of.
type Options struct {
	Path  string          // the socket; its directory must be there
	Calls map[string]Call // what can be called, by name
	// Urgent names calls for which there is always room: a user's own that is oldest
	// has its context ended for a new one. Any other call is turned away when too
	// many are under way.
	Urgent []string
	Health *health.Health // told when the socket cannot be opened; nil tells nobody
	Log    *slog.Logger   // nil discards
}

// Server answers calls on a socket. Make it with [New] and run it once.
type Server struct {
	o      Options
	listen func(path string) (listener, error)

	mu    sync.Mutex
	crowd crowd
}

// listener is a socket that listens.
type listener interface {
	// accept gives the next connection and who it is.
	accept() (net.Conn, Peer, error)
	// intact reports whether the socket can still be found under its path.
	intact() bool
	// Close ends accept, and removes the socket if it is still ours.
	Close() error
}

// New makes a server. It touches nothing until [Server.Run].
func New(o Options) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{o: o, listen: listen}
}

// Run answers calls until ctx ends, and then waits for those under way. A
// socket that cannot be opened is a fault and is tried again, and so is one
// that somebody has removed. Where the system has no such sockets it does
// nothing.
func (s *Server) Run(ctx context.Context) error {
	var calls sync.WaitGroup
	defer calls.Wait()
	for ctx.Err() == nil {
		l, err := s.listen(s.o.Path)
		switch {
		case err == nil:
			s.o.Health.Clear(health.LocalUnavailable, subject)
			s.serve(ctx, l, &calls)
			continue
		case errors.Is(err, errors.ErrUnsupported):
			s.o.Log.Debug("no local socket on this system", "err", err)
			<-ctx.Done()
		default:
			s.o.Health.Raise(health.LocalUnavailable, subject, err.Error())
			wait(ctx, again)
		}
	}
	return ctx.Err()
}

// serve takes connections until ctx ends or the socket is gone.
func (s *Server) serve(ctx context.Context, l listener, calls *sync.WaitGroup) {
	here, gone := context.WithCancel(ctx)
	var keeper sync.WaitGroup
	keeper.Go(func() { s.keep(here, l, gone) })
	defer keeper.Wait()
	defer gone()
	for {
		c, from, err := l.accept()
		switch {
		case here.Err() != nil:
			if err == nil {
				c.Close()
			}
			return
		case err != nil:
			s.o.Log.Debug("no connection", "err", err)
			wait(here, pause)
			continue
		}
		g := &guest{conn: c, from: from}
		s.mu.Lock()
		s.crowd.enter(g)
		s.mu.Unlock()
		calls.Go(func() { s.handle(ctx, g) })
	}
}

// keep closes the socket when ctx ends or nobody can find it any more.
func (s *Server) keep(ctx context.Context, l listener, gone func()) {
	tick := time.NewTicker(again)
	defer tick.Stop()
	for there := true; there; {
		select {
		case <-ctx.Done():
			there = false
		case <-tick.C:
			there = l.intact()
		}
	}
	gone()
	if err := l.Close(); err != nil {
		s.o.Log.Debug("close socket", "err", err)
	}
}

// handle answers one connection.
func (s *Server) handle(ctx context.Context, g *guest) {
	c := g.conn
	defer c.Close()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.crowd.leave(g)
	}()
	s.limit(g, time.Now().Add(patience))
	defer context.AfterFunc(ctx, func() {
		_ = c.SetReadDeadline(time.Now())
		_ = c.SetWriteDeadline(time.Now().Add(hurry))
	})()
	line, err := readLine(c, maxRequest)
	switch {
	case errors.Is(err, errTooLarge):
		s.reply(ctx, c, nil, &Error{TooLarge, fmt.Sprintf("request is larger than %d bytes", maxRequest), ""})
		s.drain(c)
		return
	case err != nil && s.sentAway(g):
		s.reply(ctx, c, nil, &Error{Busy, fmt.Sprintf("%d connections of this user wait, and this one had asked for nothing yet", share), "Try again."})
		return
	case err != nil:
		return // nobody to be answered, or nothing that was asked
	}
	result, failed := s.answer(ctx, line, g)
	s.reply(ctx, c, result, failed)
}

// limit bounds how long a request may take to come, unless it has been asked to go.
func (s *Server) limit(g *guest, end time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !g.gone {
		_ = g.conn.SetReadDeadline(end) // where it fails, so does all that follows
	}
}

func (s *Server) sentAway(g *guest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return g.gone
}

// drain reads what is left of a request, as long as one may take: a socket that is
// closed with something unread is reset, and the answer may be lost.
func (s *Server) drain(c net.Conn) {
	if w, ok := c.(interface{ CloseWrite() error }); ok {
		_ = w.CloseWrite() // the client has all of the answer
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(c, spill))
}

// answer does what a line asks for.
func (s *Server) answer(ctx context.Context, line []byte, g *guest) (result any, failed *Error) {
	r, failed := decode(line)
	if failed != nil {
		return nil, failed
	}
	call, known := s.o.Calls[r.call]
	if !known {
		return nil, &Error{UnknownCall, fmt.Sprintf("this daemon knows no call %.80q", r.call),
			"After an upgrade restart the daemon: `systemctl restart fieldpost`."}
	}
	own, cancel := context.WithCancel(ctx)
	defer cancel()
	if !s.begin(g, r.call, cancel) {
		return nil, &Error{Busy, "too many calls are being answered", "Try again in some seconds."}
	}
	defer func() {
		if p := recover(); p != nil {
			s.o.Log.Error("call panicked", "call", r.call, "err", fmt.Sprint(p), "stack", string(debug.Stack()))
			result, failed = nil, &Error{Internal, fmt.Sprintf("call panicked: %v", p), reportIt}
		}
	}()
	result, err := call(own, g.from.named(user.LookupId), r.with)
	switch {
	case err == nil:
		return result, nil
	case errors.As(err, &failed):
		return nil, failed
	case ctx.Err() != nil:
		return nil, &Error{Stopping, "the daemon is stopping", "Try again when it is back."}
	case own.Err() != nil:
		return nil, &Error{Busy, "it was ended for a later call of this user", "Try again in some seconds."}
	}
	return nil, &Error{Internal, err.Error(), ""}
}

// begin reports whether there is room for a call.
func (s *Server) begin(g *guest, call string, cancel context.CancelFunc) bool {
	at := calling
	if slices.Contains(s.o.Urgent, call) {
		at = urgent
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.crowd.call(g, at, cancel)
}

// reply sends an answer to whoever takes it in time.
func (s *Server) reply(ctx context.Context, c net.Conn, result any, failed *Error) {
	limit := patience
	if ctx.Err() != nil {
		limit = hurry
	}
	_ = c.SetWriteDeadline(time.Now().Add(limit))
	if _, err := c.Write(encode(result, failed)); err != nil {
		s.o.Log.Debug("answer was not taken", "err", err)
	}
}

// wait waits for d, or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
