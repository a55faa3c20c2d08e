package page

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// taken returns how many connections and streams there are.
func (x *site) taken() (conns, streams int) {
	x.places.mu.Lock()
	defer x.places.mu.Unlock()
	return len(x.places.seats), x.places.countLocked(func(c *seat) bool { return c.streaming })
}

// pipes is a network without a kernel: what is not read stops whoever writes, and time is the
// bubble's.
type pipes struct {
	conns chan net.Conn
	ended chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.ended:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	select {
	case <-p.ended:
	default:
		close(p.ended)
	}
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// fromConn is a connection that comes from an address.
type fromConn struct {
	net.Conn
	from net.Addr
}

func (c fromConn) RemoteAddr() net.Addr { return c.from }

// dial connects from an address and returns the client's end.
func (p *pipes) dial(from string) net.Conn {
	here, there := net.Pipe()
	p.conns <- fromConn{there, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(from))}
	return here
}

// serving serves the page to pipes until the end of the test's bubble.
func (x *site) serving(t *testing.T) *pipes {
	t.Helper()
	p := &pipes{conns: make(chan net.Conn), ended: make(chan struct{})}
	ctx, end := context.WithCancel(context.Background())
	x.ctx = ctx
	done := make(chan struct{})
	go func() {
		defer close(done)
		x.serve(ctx, p)
	}()
	t.Cleanup(func() {
		end()
		<-done
	})
	return p
}

// get asks for a path on a connection and returns the answer's status; 0 if the connection
// ends without one. A stream goes on, and its events are thrown away.
func get(c net.Conn, path string, heads ...string) int {
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", path, strings.Join(heads, "")); err != nil {
		return 0
	}
	r := bufio.NewReader(c)
	answer, err := http.ReadResponse(r, nil)
	if err != nil {
		return 0
	}
	if path == "/events" && answer.StatusCode == http.StatusOK {
		go func() { _, _ = io.Copy(io.Discard, r) }() // until the connection ends
		return answer.StatusCode
	}
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return 0
	}
	return answer.StatusCode
}

// flood opens a thousand connections from an address that ask for events, and counts the
// answers.
func flood(p *pipes, from string, heads ...string) map[int]int {
	got := map[int]int{}
	for range 1000 {
		got[get(p.dial(from), "/events", heads...)]++
	}
	return got
}

// A thousand streams from one address leave the page to every other address.
func TestOneAddressLocksNobodyOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newSite(t, "192.168.1.5:8080")
		x.o.Hosts = append(x.o.Hosts, "localhost")
		heads := []string{"Cookie: " + x.login(t) + "\r\n"}
		p := x.serving(t)
		if got := flood(p, "192.168.1.66:1000", heads...); got[200] != addressShare.streams || got[503] != 1000-addressShare.streams {
			t.Errorf("with the token: %v", got)
		}
		if got := flood(p, "192.168.1.67:1000"); got[401] != 1000 {
			t.Errorf("without the token: %v", got)
		}
		for range 1000 { // which never ask
			p.dial("[2001:db8::1]:1000")
			p.dial("[2001:db8::2]:1000")
		}
		c := p.dial("192.168.1.9:1000")
		for _, path := range []string{"/", "/page.js", "/state", "/events"} {
			if got := get(c, path, heads...); got != http.StatusOK {
				t.Errorf("%s for another address: %d", path, got)
			}
		}
		if conns, streams := x.taken(); conns > 3*addressShare.conns+addressShare.known+1 || streams != addressShare.streams+1 {
			t.Errorf("%d connections, %d streams", conns, streams)
		}
	})
}

// On a loopback address whoever has the token keeps what it has, whatever others on this
// machine do.
func TestStrangersLeaveRoomForTheKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newSite(t, "127.0.0.1:8080")
		cookie := "Cookie: " + x.login(t) + "\r\n"
		p := x.serving(t)
		before := p.dial("127.0.0.1:1")
		if got := get(before, "/session", cookie); got != http.StatusOK {
			t.Fatal(got)
		}
		for n := range 3 {
			if got := flood(p, fmt.Sprintf("127.0.%d.7:1000", n)); n == 0 && got[200] != loopbackShare.streams {
				t.Errorf("%v", got)
			}
			for range 500 { // which never ask
				p.dial("127.0.0.1:2")
			}
		}
		if got := get(before, "/events", cookie); got != http.StatusOK {
			t.Errorf("events for who was here before: %d", got)
		}
		c := p.dial("127.0.0.1:3")
		for _, path := range []string{"/", "/state", "/session", "/events"} {
			if got := get(c, path, cookie); got != http.StatusOK {
				t.Errorf("%s with the token: %d", path, got)
			}
		}
		c = p.dial("127.0.0.1:4")
		for path, want := range map[string]int{"/": 200, "/state": 200, "/events": 503} {
			if got := get(c, path); got != want {
				t.Errorf("%s without the token: %d", path, got)
			}
		}
		if conns, streams := x.taken(); conns > maxConns || streams != loopbackShare.streams+2 {
			t.Errorf("%d connections, %d streams", conns, streams)
		}
	})
}

// Whatever comes from however many addresses, a newcomer gets a place, and nobody with events
// loses one.
func TestNewcomersGetAPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newSite(t, "192.168.1.5:8080")
		heads := "Cookie: " + x.login(t) + "\r\n"
		p := x.serving(t)
		first := p.dial("192.168.1.2:1")
		if got := get(first, "/events", heads); got != http.StatusOK {
			t.Fatal(got)
		}
		for n := range 250 {
			for range 4 {
				p.dial(fmt.Sprintf("192.168.2.%d:1", n))
			}
			if got := get(p.dial("192.168.1.3:1"), "/", heads); got != http.StatusOK {
				t.Fatalf("after %d addresses: %d", n, got)
			}
		}
		if conns, streams := x.taken(); conns != maxConns || streams != 1 {
			t.Errorf("%d connections, %d streams", conns, streams)
		}
	})
}

// serving counts the goroutines that serve connections.
func serving() int {
	all := make([]byte, 1<<20)
	return strings.Count(string(all[:runtime.Stack(all, true)]), "net/http.(*c") // (*conn).serve, (*connReader).backgroundRead
}

// Who sends too slowly or does not read is dropped in time, and leaves nothing behind.
func TestSlowNeighbours(t *testing.T) {
	for name, c := range map[string]struct {
		send   string        // at once
		drip   string        // then a byte a second of this, again and again
		reads  int           // bytes of the answer that are read
		within time.Duration // until it is dropped
	}{
		"says nothing":          {within: patience},
		"headers byte by byte":  {send: "GET / HTTP/1.1\r\nHost: localhost\r\n", drip: "X-A: b\r\n", within: patience},
		"a body that never is":  {send: "POST /session HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n", within: 2 * patience},
		"a body byte by byte":   {send: "POST /session HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n", drip: " ", within: 2 * patience},
		"events nobody reads":   {send: "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n", within: patience},
		"events read in part":   {send: "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n", reads: 1, within: patience + every},
		"a file nobody reads":   {send: "GET /uPlot.js HTTP/1.1\r\nHost: localhost\r\n\r\n", within: patience},
		"asks once, then waits": {send: "GET /state HTTP/1.1\r\nHost: localhost\r\n\r\n", reads: -1, within: idle},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newSite(t, "127.0.0.1:8080")
				p := x.serving(t)
				synctest.Wait()
				before := serving()
				begin := time.Now()
				conn := p.dial("127.0.0.1:1")
				if _, err := io.WriteString(conn, c.send); err != nil {
					t.Fatal(err)
				}
				if c.reads < 0 {
					go func() { _, _ = io.Copy(io.Discard, conn) }() // until it is dropped
				}
				for range c.reads {
					if _, err := conn.Read(make([]byte, 1)); err != nil {
						t.Fatal(err)
					}
				}
				synctest.Wait()
				if conns, _ := x.taken(); conns != 1 || serving() <= before {
					t.Fatalf("%d connections, %d goroutines", conns, serving())
				}
				second := time.NewTicker(time.Second)
				defer second.Stop()
				for n := 0; ; n++ {
					if conns, _ := x.taken(); conns == 0 {
						break
					}
					if time.Since(begin) > c.within {
						t.Fatalf("it is still there after %v", time.Since(begin))
					}
					if c.drip != "" {
						// The other end may be closing, or have an answer that nobody reads.
						_ = conn.SetWriteDeadline(time.Now().Add(time.Millisecond))
						_, err := io.WriteString(conn, c.drip[n%len(c.drip):][:1])
						if err != nil && !errors.Is(err, io.ErrClosedPipe) && !errors.Is(err, os.ErrDeadlineExceeded) {
							t.Fatal(err)
						}
					}
					<-second.C
					synctest.Wait()
				}
				if _, streams := x.taken(); streams != 0 {
					t.Errorf("%d streams", streams)
				}
				synctest.Wait()
				if now := serving(); now > before {
					t.Errorf("%d goroutines, before %d", now, before)
				}
			})
		})
	}
}

// A stream goes on for as long as it is read, and ends in time when it is not any more.
func TestStreamLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newSite(t, "127.0.0.1:8080")
		p := x.serving(t)
		c := p.dial("127.0.0.1:1")
		if _, err := io.WriteString(c, "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		answer, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(answer.Body)
		for events := 0; events < 60; {
			if !lines.Scan() {
				t.Fatalf("it ended after %d events: %v", events, lines.Err())
			}
			if strings.HasPrefix(lines.Text(), "data: ") {
				events++
			}
		}
		late := time.NewTimer(patience + 2*every)
		<-late.C
		synctest.Wait()
		if conns, streams := x.taken(); conns != 0 || streams != 0 {
			t.Errorf("%d connections, %d streams", conns, streams)
		}
	})
}
