// Package page serves the web page of a daemon: what the board reads, what its outputs do,
// what is wrong, and the buttons that order.
//
// Who is asked:
//
//   - A request must name this machine in its Host header, so that a web page elsewhere cannot
//     point its own name here (DNS rebinding).
//   - A request that changes something must come from the page itself: its Origin is its Host.
//   - On a loopback address anyone on this machine may look. Elsewhere, and for an order
//     anywhere, a browser shows the token once and gets a cookie that no script can read and
//     that is sent with no request from another site.
//
// Nothing runs while nobody looks: no goroutine but the one that waits for a connection.
package page

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"fieldpost/daemon/api"
	"fieldpost/daemon/health"
	"fieldpost/daemon/task"
)

const (
	patience  = 5 * time.Second  // for a request to arrive and for an answer to be read
	idle      = 30 * time.Second // for the next request on a connection
	again     = 30 * time.Second // until opening the address is tried again
	pause     = time.Second      // after accept failed
	maxHeader = 8 << 10          // bytes of a request's header; net/http allows a little more
	maxBody   = 4 << 10          // bytes of a request's body
	every     = time.Second      // from one event to the next, and how long a state is used
)

// Subject is what [health.PageUnavailable] is about.
const Subject = "page"

// Options are what a [Server] needs. The functions may be called from several goroutines at a
// time and must not block for long.
type Options struct {
	// Address is the IP address and TCP port to listen on: 127.0.0.1:8080.
	Address string
	// Listener is Address if it is open already: the page takes it, and closes it in the end.
	// Nil: the page opens Address.
	Listener net.Listener
	// Hosts are the names and addresses for which requests are answered, in addition to
	// localhost, the loopback addresses and Address itself.
	Hosts []string
	// Token returns the token that orders need. Nil: nobody may order.
	Token func() (string, error)
	// State returns what the page shows.
	State func() State
	// Order carries out an order and returns its answer.
	Order func(ctx context.Context, order api.Order, cause string) (any, error)
	// History answers a query, its keys and values as JSON.
	History func(query []byte) (any, error)
	// Console subscribes and publishes; nil: the page has no such view.
	Console *Console
	// Now is the board's clock, by which orders expire.
	Now    func() time.Time
	Health *health.Health // gets a fault while the address cannot be opened; may be nil
	Log    *slog.Logger   // nil discards
}

// State is what the page shows at one moment.
type State struct {
	Status api.Status `json:"status"`
	// Symbols are the units as people write them, by sensor and quantity.
	Symbols map[string]map[string]string `json:"symbols"`
	// Bounds are those of the outputs, by name.
	Bounds map[string]Bounds `json:"bounds"`
	// Recent are the latest orders with their answers, the latest first.
	Recent []Recent `json:"recent"`
	// Demo says that the board is simulated.
	Demo bool `json:"demo,omitzero"`
	// Console says that the page may subscribe and publish.
	Console bool `json:"console,omitzero"`
}

// Recent is an order and its answer.
type Recent struct {
	Time   time.Time `json:"time"`
	Output string    `json:"output"`
	Status string    `json:"status"` // done, refused, failed, unknown
	State  string    `json:"state,omitempty"`
	Level  *float64  `json:"level,omitempty"`
	Reason string    `json:"reason,omitempty"`
	Hint   string    `json:"hint,omitempty"`
	Cause  string    `json:"cause"`
}

// Bounds are what an output keeps within, in seconds; 0 is no bound.
type Bounds struct {
	Safe      string  `json:"safe,omitempty"` // on, off, or a percentage; absent: it keeps its level
	SafeAfter float64 `json:"safe_after_s,omitzero"`
	Refresh   float64 `json:"refresh_s,omitzero"`
	MaxOn     float64 `json:"max_on_s,omitzero"`
	MinOn     float64 `json:"min_on_s,omitzero"`
	MinOff    float64 `json:"min_off_s,omitzero"`
	PWM       bool    `json:"pwm,omitzero"` // it has levels between off and on
}

// Server is the page. Make it with [New] and run it once.
type Server struct {
	o        Options
	loopback bool
	routes   *http.ServeMux
	places   *admission

	mu        sync.Mutex
	made      time.Time // when state was
	state     []byte    // as JSON
	second    int64     // of the Unix time, in which
	published int       // so many messages were published by the console
	wrong     int       // tokens since
	warned    time.Time // when the log had the last of these; zero is never
	ended     bool      // Run has; nothing is answered any more
	running   sync.WaitGroup
	ctx       context.Context // of Run, which sets it before there are connections
}

// New makes a page. It opens nothing before [Server.Run].
func New(o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	at, err := netip.ParseAddrPort(o.Address)
	if err != nil {
		return nil, fmt.Errorf("address of the page: %w", err)
	}
	s := &Server{o: o, loopback: at.Addr().IsLoopback()}
	s.places = newAdmission(s.loopback)
	s.routes = s.handlers()
	return s, nil
}

// Run answers requests until ctx ends. If the address cannot be opened, it raises a fault and
// tries again.
func (s *Server) Run(ctx context.Context) error {
	s.ctx = ctx
	for ctx.Err() == nil {
		l, err := s.open(ctx)
		if err != nil {
			s.o.Health.Raise(health.PageUnavailable, Subject, err.Error())
			wait(ctx, again)
			continue
		}
		s.o.Health.Clear(health.PageUnavailable, Subject)
		s.serve(ctx, l)
	}
	s.o.Health.Clear(health.PageUnavailable, Subject)
	return ctx.Err()
}

// open opens the address, unless it is open.
func (s *Server) open(ctx context.Context) (l net.Listener, err error) {
	if l, s.o.Listener = s.o.Listener, nil; l != nil {
		return l, nil
	}
	return new(net.ListenConfig).Listen(ctx, "tcp", s.o.Address)
}

// serve answers requests until ctx ends or the listener fails.
func (s *Server) serve(ctx context.Context, l net.Listener) {
	web := &http.Server{
		Handler: s, ReadHeaderTimeout: patience, ReadTimeout: patience, IdleTimeout: idle, MaxHeaderBytes: maxHeader,
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(s.o.Log.Handler(), slog.LevelDebug),
		BaseContext:                  func(net.Listener) context.Context { return ctx },
		ConnContext:                  withSeat,
	}
	here, over := context.WithCancel(ctx)
	others := task.NewGroup(ctx)
	defer others.Wait()
	defer over()
	others.Go("page end", func() {
		<-here.Done()
		_ = web.Close() // the listener's error is known already
	})
	err := web.Serve(&boundedListener{Listener: l, s: s, ctx: ctx})
	s.o.Log.Debug("no more connections to the page", "err", err)
	if ctx.Err() == nil {
		return
	}
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.running.Wait()
}

// begin reports whether a request may still be answered. If so, end it.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false
	}
	s.running.Add(1)
	return true
}

// boundedListener gives each connection a place, and closes those for which there is none.
type boundedListener struct {
	net.Listener
	s   *Server
	ctx context.Context
}

// Accept waits for the next connection.
func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		switch {
		case err == nil:
			if seat := l.s.places.enter(c); seat != nil {
				return seat, nil
			}
			_ = c.Close() // there is no room
		case l.ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return nil, net.ErrClosed
		default:
			l.s.o.Log.Debug("no connection to the page", "err", err)
			wait(l.ctx, pause)
		}
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
