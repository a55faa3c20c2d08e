package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os/user"
	"runtime/debug"
	"sync"
	"time"

	"fieldpost/daemon/health"
)

const (
	most     = 16               // connections at a time
	patience = 5 * time.Second  // for a request to come, and for an answer to be taken
	hurry    = time.Second / 2  // for an answer to be taken while the server ends
	again    = 30 * time.Second // until a socket that could not be opened is tried again, and how often one is looked after
	pause    = time.Second      // after the system gave no connection
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
	Path   string          // the socket; its directory must be there
	Calls  map[string]Call // what can be called, by name
	Health *health.Health  // told when the socket cannot be opened; nil tells nobody
	Log    *slog.Logger    // nil discards
}

// Server answers calls on a socket. Make it with [New] and run it once.
type Server struct {
	o      Options
	listen func(path string) (listener, error)
	room   chan struct{}
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
	if o.Health == nil {
		o.Health = health.New(func(health.Change) {})
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{o: o, listen: listen, room: make(chan struct{}, most)}
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
		select {
		case s.room <- struct{}{}:
			calls.Go(func() {
				defer func() { <-s.room }()
				s.handle(ctx, c, from.named(user.LookupId))
			})
		default:
			s.reply(ctx, c, nil, &Error{Busy, fmt.Sprintf("%d others are being answered", most), "Try again in some seconds."})
			c.Close()
		}
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
func (s *Server) handle(ctx context.Context, c net.Conn, from Peer) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience)) // where it fails, so does all that follows
	defer context.AfterFunc(ctx, func() {
		_ = c.SetReadDeadline(time.Now())
		_ = c.SetWriteDeadline(time.Now().Add(hurry))
	})()
	line, err := readLine(c, maxRequest)
	switch {
	case errors.Is(err, errTooLarge):
		s.reply(ctx, c, nil, &Error{TooLarge, fmt.Sprintf("request is larger than %d bytes", maxRequest), ""})
		return
	case err != nil:
		return // nobody to be answered, or nothing that was asked
	}
	result, failed := s.answer(ctx, line, from)
	s.reply(ctx, c, result, failed)
}

// answer does what a line asks for.
func (s *Server) answer(ctx context.Context, line []byte, from Peer) (result any, failed *Error) {
	r, failed := decode(line)
	if failed != nil {
		return nil, failed
	}
	call, known := s.o.Calls[r.call]
	if !known {
		return nil, &Error{UnknownCall, fmt.Sprintf("this daemon knows no call %.80q", r.call),
			"After an upgrade restart the daemon: `systemctl restart fieldpost`."}
	}
	defer func() {
		if p := recover(); p != nil {
			s.o.Log.Error("call panicked", "call", r.call, "err", fmt.Sprint(p), "stack", string(debug.Stack()))
			result, failed = nil, &Error{Internal, fmt.Sprintf("call panicked: %v", p), reportIt}
		}
	}()
	result, err := call(ctx, from, r.with)
	switch {
	case err == nil:
		return result, nil
	case errors.As(err, &failed):
		return nil, failed
	case ctx.Err() != nil:
		return nil, &Error{Stopping, "the daemon is stopping", "Try again when it is back."}
	}
	return nil, &Error{Internal, err.Error(), ""}
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
