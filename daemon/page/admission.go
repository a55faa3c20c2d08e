package page

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync"
)

// Limits of connections and streams. Each address has a share, so that nobody can lock the
// others out. On a loopback address everybody is this machine, under as many addresses as they
// like: there it is whoever has shown the token that has a share apart from all others.
//
// A newcomer always gets a place. Whoever has the most gives one up, the one used least lately;
// not one with a stream and not a known one, and there are fewer of these than places.
const (
	maxConns   = 64 // connections
	knownConns = 32 // of those, of browsers that have shown the token
	maxStreams = 32 // connections with events
)

// share is what one address may have.
type share struct {
	conns   int // connections without a session
	known   int // connections with one
	streams int // of these two; on a loopback address of each
}

var (
	loopbackShare = share{conns: 48, known: 16, streams: 16}
	addressShare  = share{conns: 16, known: 16, streams: 8}
)

// admission gives places to connections and streams. Any goroutine may call its methods.
type admission struct {
	loopback bool // everybody is this machine
	most     share

	mu    sync.Mutex
	seats []*seat // the one used least lately first
}

func newAdmission(loopback bool) *admission {
	a := &admission{loopback: loopback, most: addressShare}
	if loopback {
		a.most = loopbackShare
	}
	return a
}

// seat is a connection and its place, which it gives back when it is closed.
type seat struct {
	net.Conn
	a    *admission
	from netip.Prefix // whose share it belongs to

	// a.mu guards these.
	known     bool // the latest request with a cookie had a session
	streaming bool // it has events
}

// movable reports whether the seat can be taken for a newcomer.
func (c *seat) movableLocked() bool { return !c.known && !c.streaming }

// Close closes the connection.
func (c *seat) Close() error {
	c.a.mu.Lock()
	c.a.removeLocked(c)
	c.a.mu.Unlock()
	return c.Conn.Close()
}

// sharer returns whose share a connection from this address belongs to: an IPv4 address, or
// the /64 network of an IPv6 one, because whoever has one address there has all of them.
func (a *admission) sharer(from net.Addr) netip.Prefix {
	at, err := netip.ParseAddrPort(from.String())
	if err != nil || a.loopback {
		return netip.Prefix{}
	}
	ip := at.Addr().Unmap().WithZone("")
	if ip.Is4() {
		return netip.PrefixFrom(ip, 32)
	}
	p, _ := ip.Prefix(64) // an IPv6 address has one
	return p
}

// enter gives a connection a place, and ends another one where that is needed. It returns nil
// if no other one can be ended.
func (a *admission) enter(c net.Conn) *seat {
	n := &seat{Conn: c, a: a, from: a.sharer(c.RemoteAddr())}
	a.mu.Lock()
	var out *seat
	var ok bool
	switch {
	case a.countLocked(func(c *seat) bool { return c.from == n.from && !c.known }) >= a.most.conns:
		out = a.oldestLocked(n.from)
		ok = out != nil
	case len(a.seats) >= maxConns:
		out = a.greediestLocked()
		ok = out != nil
	default:
		ok = true
	}
	if out != nil {
		a.removeLocked(out)
	}
	if ok {
		a.seats = append(a.seats, n)
	}
	a.mu.Unlock()
	if out != nil {
		_ = out.Conn.Close() // nobody asks any more
	}
	if !ok {
		return nil
	}
	return n
}

func (a *admission) countLocked(which func(*seat) bool) (n int) {
	for _, c := range a.seats {
		if which(c) {
			n++
		}
	}
	return n
}

// oldestLocked returns the seat of a share that was used least lately, of those that can be
// taken; nil if none can.
func (a *admission) oldestLocked(from netip.Prefix) *seat {
	for _, c := range a.seats {
		if c.from == from && c.movableLocked() {
			return c
		}
	}
	return nil
}

// greediestLocked returns such a seat of the share that has the most of them.
func (a *admission) greediestLocked() (found *seat) {
	most := 0
	for _, c := range a.seats {
		if !c.movableLocked() {
			continue
		}
		if n := a.countLocked(func(x *seat) bool { return x.from == c.from && x.movableLocked() }); n > most {
			most, found = n, c
		}
	}
	return found
}

func (a *admission) removeLocked(c *seat) {
	for i, x := range a.seats {
		if x == c {
			a.seats = append(a.seats[:i:i], a.seats[i+1:]...)
			return
		}
	}
}

// use notes that a request has come on a connection.
func (a *admission) use(c *seat) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, x := range a.seats {
		if x == c { // it still has its place
			a.removeLocked(c)
			a.seats = append(a.seats, c)
			return
		}
	}
}

// know notes whether a connection is of a browser that has shown the token, if there is room
// for one more.
func (a *admission) know(c *seat, known bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if known && !c.known {
		known = a.countLocked(func(x *seat) bool { return x.known }) < knownConns &&
			a.countLocked(func(x *seat) bool { return x.known && x.from == c.from }) < a.most.known
	}
	c.known = known
}

// enterStream reports whether a connection may have events. If so, leaveStream ends that.
func (a *admission) enterStream(c *seat) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	mine := func(x *seat) bool {
		return x.streaming && x.from == c.from && (!a.loopback || x.known == c.known)
	}
	if a.countLocked(func(x *seat) bool { return x.streaming }) >= maxStreams || a.countLocked(mine) >= a.most.streams {
		return false
	}
	c.streaming = true
	return true
}

func (a *admission) leaveStream(c *seat) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c.streaming = false
}

// seatKey is the key of a connection's seat in the contexts of its requests.
type seatKey struct{}

// withSeat is for [http.Server.ConnContext].
func withSeat(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, seatKey{}, c)
}

// seatOf returns the seat of a request's connection.
func (s *Server) seatOf(r *http.Request) *seat {
	if c, ok := r.Context().Value(seatKey{}).(*seat); ok {
		return c
	}
	return &seat{a: s.places} // not from our listener
}
