package local

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"fieldpost/daemon/api"
	"fieldpost/daemon/health"
	"fieldpost/daemon/task"
)

const (
	patience  = 5 * time.Second  // for a request to arrive, for an answer to be read, and for the next request
	hurry     = time.Second / 2  // for an answer to be read while the server is stopping
	again     = 30 * time.Second // until opening the socket is tried again, and how often the socket file is checked
	pause     = time.Second      // after accept failed
	maxHeader = 8 << 10          // bytes of a request's header; net/http allows a little more
	maxBody   = 64 << 10         // bytes of a request's body
	drainMax  = 64 << 20         // bytes of a refused body that are read and discarded, so that its answer is not lost
)

// socketSubject is what the fault of a server on the unix socket is about.
const socketSubject = "local"

// MetricsSubject is what [health.MetricsUnavailable] is about.
const MetricsSubject = "metrics"

// Call answers one request. body is the JSON of the request, nil if it has none. The error is
// for the client: an [*api.Error], or any other, which the client gets as [api.Internal]. ctx
// ends when the server does, but not when the client hangs up; a call limits its own time.
// Several goroutines may call it at a time.
type Call func(ctx context.Context, from Peer, body json.RawMessage) (result any, err error)

// Endpoint is a route and the call that answers it.
type Endpoint struct {
	api.Route
	Call Call
	// Urgent makes sure that there is always room for the call: if the user has too many, the
	// context of the user's oldest is cancelled. Other calls are refused if too many are
	// running.
	Urgent bool
}

// Options are the settings of a server.
type Options struct {
	Path string // the socket; its directory must exist
	// Address is an IP address and a TCP port to listen on instead, "127.0.0.1:9108". The
	// callers are then unknown, so no endpoint may change anything.
	Address string
	// Hosts are the names and addresses for which requests to Address are answered, in
	// addition to localhost, the loopback addresses and Address itself. Other requests are
	// refused: they may come from a web page in a browser on this network that points its own
	// name at this address (DNS rebinding).
	Hosts     []string
	Endpoints []Endpoint
	Health    *health.Health // gets a fault while the socket cannot be opened; may be nil
	Log       *slog.Logger   // nil discards
}

// Server answers HTTP requests on a socket. Make it with [New] and run it once.
type Server struct {
	o      Options
	listen func(path string) (listener, error)
	fault  health.Code     // raised while it cannot listen
	about  string          // the fault's subject
	ctx    context.Context // of Run, which sets it before there are connections
	others *task.Group     // set likewise: all other goroutines, most of them net/http's

	mu        sync.Mutex
	admission admission
	ended     bool           // ctx has ended
	conns     sync.WaitGroup // counts connections
}

// listener is a listening socket.
type listener interface {
	// accept returns the next connection and its peer.
	accept() (net.Conn, Peer, error)
	// intact reports whether the socket can still be found under its path.
	intact() bool
	// Close ends accept, and removes the socket file if it is still ours.
	Close() error
}

// New makes a server on a unix socket, or on an address if the options have one. It opens
// nothing before [Server.Run].
func New(o Options) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{o: o, listen: listen, fault: health.LocalUnavailable, about: socketSubject}
	if o.Address != "" {
		s.o.Path, s.listen, s.fault, s.about = o.Address, listenTCP, health.MetricsUnavailable, MetricsSubject
	}
	return s
}

// Run answers requests until ctx ends, and then waits for running ones. If the socket cannot
// be opened, it raises a fault and tries again. If somebody removes the socket, it opens a
// new one. On a system without such sockets it does nothing.
func (s *Server) Run(ctx context.Context) error {
	s.ctx, s.others = ctx, task.NewGroup(ctx)
	web := &http.Server{
		Handler: s, ReadHeaderTimeout: patience, ReadTimeout: patience, IdleTimeout: patience, MaxHeaderBytes: maxHeader,
		DisableGeneralOptionsHandler: true, // OPTIONS * is answered like any unknown path
		ErrorLog:                     slog.NewLogLogger(s.o.Log.Handler(), slog.LevelDebug),
		ConnState: func(c net.Conn, state http.ConnState) {
			s.others.Call("local connections", func() { s.follow(c, state) })
		},
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
	}
	ended := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(ended)
		s.others.Call("local end", func() { s.endConnections(web) })
	})
	for ctx.Err() == nil {
		l, err := s.listen(s.o.Path)
		switch {
		case err == nil:
			s.o.Health.Clear(s.fault, s.about)
			s.serve(ctx, web, l)
		case errors.Is(err, errors.ErrUnsupported):
			s.o.Log.Debug("no local socket on this system", "err", err)
			<-ctx.Done()
		default:
			s.o.Health.Raise(s.fault, s.about, err.Error())
			wait(ctx, again)
		}
	}
	<-ended // a panic there is reported while somebody listens
	s.endConnections(web)
	s.conns.Wait() // not deferred: after a panic that might take a minute
	return ctx.Err()
}

// serve accepts connections until ctx ends or the socket file is gone. It keeps connections
// that exist then.
func (s *Server) serve(ctx context.Context, web *http.Server, l listener) {
	here, gone := context.WithCancel(ctx)
	keeper := task.NewGroup(ctx)
	keeper.Go("local socket file", func() { s.keep(here, l, gone) })
	defer keeper.Wait()
	defer gone()
	err := web.Serve(&webListener{Server: s, listener: l, here: here})
	s.o.Log.Debug("no more connections", "err", err)
}

// keep closes the socket when ctx ends or the socket file is gone.
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

// endConnections closes all connections that wait for a request, and shortens the time of those whose
// answer has not been read.
func (s *Server) endConnections(web *http.Server) {
	web.SetKeepAlivesEnabled(false)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for _, c := range s.admission.conns {
		c.endReadingLocked()
	}
}

// endReadingLocked is what endConnections does to a connection.
func (c *conn) endReadingLocked() {
	c.muteLocked()
	_ = c.SetWriteDeadline(time.Now().Add(hurry)) // where it fails, so does the writing
}

// follow tracks the state of a connection for net/http.
func (s *Server) follow(nc net.Conn, state http.ConnState) {
	c := nc.(*conn)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		s.conns.Add(1)
		s.awaitRequestLocked(c)
	case http.StateIdle:
		c.idle = true
		s.admission.leaveLocked(c)
		s.awaitRequestLocked(c)
	case http.StateClosed:
		s.admission.leaveLocked(c)
		s.conns.Done()
	}
}

// awaitRequestLocked adds a connection that waits for its first or next request.
func (s *Server) awaitRequestLocked(c *conn) {
	s.admission.enterLocked(c)
	if s.ended {
		c.endReadingLocked()
		return
	}
	// Answers that net/http makes itself have no other limit.
	_ = c.SetWriteDeadline(time.Now().Add(3 * patience)) // where it fails, so does the writing
}

// webListener is the listener for net/http. It ends only when the socket does.
type webListener struct {
	*Server
	listener
	here context.Context
}

// Accept waits for the next connection.
func (d *webListener) Accept() (net.Conn, error) {
	for {
		c, from, err := d.accept()
		switch {
		case d.here.Err() != nil:
			if err == nil {
				_ = c.Close() // no request was read
			}
			return nil, net.ErrClosed
		case err == nil:
			return &conn{Conn: c, server: d.Server, from: from}, nil
		}
		d.o.Log.Debug("no connection", "err", err)
		wait(d.here, pause)
	}
}

// Close does nothing: the owner of the socket closes it.
func (d *webListener) Close() error { return nil }

// Addr is not used.
func (d *webListener) Addr() net.Addr { return &net.UnixAddr{Name: d.o.Path, Net: "unix"} }

// wait waits for d, or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
