//go:build chaos && linux

package chaos

import (
	"errors"
	"net"
	"sync"
	"testing"
)

// flow is what a proxy does with the bytes of one direction.
type flow int

const (
	pass    flow = iota
	hold         // keeps them and reads no more, so the other side stalls
	swallow      // reads them and throws them away: a black hole
)

// The two directions.
const (
	up   = iota // from the daemon to the broker
	down        // from the broker to the daemon
)

// proxy is the network between the daemon and the broker.
type proxy struct {
	addr string
	to   string

	mu     sync.Mutex
	open   bool // whether it accepts connections
	flows  [2]flow
	moved  chan struct{} // closed when flows change
	conns  map[*net.TCPConn]bool
	spoilt map[*net.TCPConn]bool // connections that have lost bytes
}

// startProxy starts a proxy, which accepts no connections until it is opened.
func startProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{
		addr: l.Addr().String(), to: to, moved: make(chan struct{}),
		conns: map[*net.TCPConn]bool{}, spoilt: map[*net.TCPConn]bool{},
	}
	var all sync.WaitGroup
	all.Go(func() { p.accept(l, &all) })
	t.Cleanup(func() {
		_ = l.Close()
		p.gate(false)
		p.set(up, pass)
		p.set(down, pass)
		all.Wait()
	})
	return p
}

func (p *proxy) accept(l net.Listener, all *sync.WaitGroup) {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		all.Go(func() { p.serve(conn.(*net.TCPConn)) })
	}
}

// serve forwards one connection until it ends.
func (p *proxy) serve(from *net.TCPConn) {
	defer p.cut(from)
	if !p.join(from) {
		return
	}
	far, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	to := far.(*net.TCPConn)
	defer p.cut(to)
	if !p.join(to) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.pump(from, to, up) })
	both.Go(func() { p.pump(to, from, down) })
	both.Wait()
}

// pump forwards one direction. At its end it ends the other one.
func (p *proxy) pump(from, to *net.TCPConn, way int) {
	defer p.end(from, to)
	buf := make([]byte, 4096)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		what, ok := p.wait(from, to, way)
		if !ok {
			return
		}
		if what == swallow {
			continue
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// wait waits while bytes are held and returns what to do with them.
func (p *proxy) wait(from, to *net.TCPConn, way int) (flow, bool) {
	for {
		p.mu.Lock()
		what, moved, alive := p.flows[way], p.moved, p.conns[from] && p.conns[to]
		if what == swallow {
			p.spoilt[from] = true
		}
		p.mu.Unlock()
		if !alive || what != hold {
			return what, alive
		}
		<-moved
	}
}

func (p *proxy) join(c *net.TCPConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open {
		p.conns[c] = true
	}
	return p.open
}

// end closes both connections for writing, like a peer that has no more to send.
func (p *proxy) end(conns ...*net.TCPConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
		delete(p.conns, c)
		delete(p.spoilt, c)
	}
	p.stir()
}

// cut resets one connection if it is open.
func (p *proxy) cut(c *net.TCPConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kick(c)
}

func (p *proxy) kick(c *net.TCPConn) {
	_ = c.SetLinger(0) // so that closing it resets it; fails if it is closed already
	_ = c.Close()
	delete(p.conns, c)
	delete(p.spoilt, c)
	p.stir()
}

// reset resets all connections.
func (p *proxy) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		p.kick(c)
	}
}

// gate opens the proxy, or closes it and ends all connections.
func (p *proxy) gate(open bool) {
	p.mu.Lock()
	p.open = open
	p.mu.Unlock()
	if !open {
		p.reset()
	}
}

// set sets what happens to the bytes of one direction. Connections that have lost bytes
// are reset when they flow again, because TLS could not decrypt the rest.
func (p *proxy) set(way int, what flow) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.flows[way] == swallow && what != swallow && len(p.spoilt) > 0 {
		for c := range p.conns {
			p.kick(c)
		}
	}
	p.flows[way] = what
	p.stir()
}

func (p *proxy) stir() {
	close(p.moved)
	p.moved = make(chan struct{})
}
