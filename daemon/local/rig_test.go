package local

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"fieldpost/daemon/api"
	"fieldpost/daemon/health"
)

// door is a listener of pipes, for a bubble of synctest.
type door struct {
	knock  chan visit // without a connection: an error of accept
	closed chan struct{}
	once   sync.Once

	mu   sync.Mutex
	lost bool
}

// visit is a connection of a user.
type visit struct {
	conn net.Conn
	uid  uint32
}

// somebody is the user of most connections.
const somebody = 4_000_000_000

func newDoor() *door { return &door{knock: make(chan visit), closed: make(chan struct{})} }

func (d *door) accept() (net.Conn, Peer, error) {
	select {
	case v := <-d.knock:
		if v.conn == nil {
			return nil, Peer{}, errors.New("too many open files")
		}
		return v.conn, Peer{UID: v.uid, PID: 4242}, nil
	case <-d.closed:
		return nil, Peer{}, net.ErrClosed
	}
}

func (d *door) intact() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.lost
}

func (d *door) lose() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lost = true
}

func (d *door) Close() error {
	d.once.Do(func() { close(d.closed) })
	return nil
}

// house is a server that runs in a bubble.
type house struct {
	t      *testing.T
	server *Server
	doors  chan listener // what listen gives; nil is an error
	stop   func()
	done   chan error

	mu    sync.Mutex
	steps []string // what was tried and told
}

func (h *house) step(s string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.steps = append(h.steps, s)
}

// taken gives the steps so far.
func (h *house) taken() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.steps, ", ")
}

// endpoints gives each call a path of its own, /v1/ and its name; "order" is urgent.
func endpoints(calls map[string]Call) (all []Endpoint) {
	for name, call := range calls {
		all = append(all, Endpoint{Route: route(name), Call: call, Urgent: name == "order"})
	}
	must, plain := route("must"), route("plain")
	must.Optional, plain.Request, plain.Method = false, nil, "GET"
	return append(all, Endpoint{Route: must}, Endpoint{Route: plain})
}

func route(name string) api.Route {
	return api.Route{Name: name, Method: "POST", Path: "/v1/" + name, Request: "anything", Optional: true}
}

func newHouse(t *testing.T, calls map[string]Call) *house {
	h := &house{t: t, doors: make(chan listener, 8), done: make(chan error, 1)}
	s := New(Options{Path: "x", Endpoints: endpoints(calls), Health: health.New(func(c health.Change) {
		h.step(c.Subject + " " + string(c.Fault.Code) + " " + c.State())
	})})
	h.server = s
	s.listen = func(string) (listener, error) {
		h.step("open")
		if l := <-h.doors; l != nil {
			return l, nil
		}
		return nil, errors.New("another daemon answers")
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.stop = cancel
	t.Cleanup(cancel)
	go func() { h.done <- s.Run(ctx) }()
	return h
}

// open is a house with one door.
func open(t *testing.T, calls map[string]Call) (*house, *door) {
	h, d := newHouse(t, calls), newDoor()
	h.doors <- d
	return h, d
}

// end stops the server and gives how long that took.
func (h *house) end() time.Duration {
	h.t.Helper()
	before := time.Now()
	h.stop()
	if err := <-h.done; !errors.Is(err, context.Canceled) {
		h.t.Errorf("run ended with %v", err)
	}
	return time.Since(before)
}

// come connects.
func (d *door) come() net.Conn { return d.comeAs(somebody) }

// comeAs connects as a user.
func (d *door) comeAs(uid uint32) net.Conn {
	here, there := net.Pipe()
	d.knock <- visit{there, uid}
	return here
}

// request is a request for a call, after whose answer the connection ends.
func request(call, body string) string {
	return fmt.Sprintf("POST /v1/%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", call, len(body), body)
}

// asking connects as a user and sends a request.
func (d *door) asking(t *testing.T, uid uint32, call, body string) net.Conn {
	t.Helper()
	c := d.comeAs(uid)
	if _, err := io.WriteString(c, request(call, body)); err != nil {
		t.Fatalf("ask %s: %v", call, err)
	}
	return c
}

// ask sends a request and gives the answer.
func (d *door) ask(t *testing.T, call, body string) string {
	t.Helper()
	c := d.asking(t, somebody, call, body)
	defer c.Close()
	return hear(t, c)
}

// hear reads a connection to its end and gives the answer that came, as its
// status and its body; "" where none came.
func hear(t *testing.T, c net.Conn) string {
	t.Helper()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("hear: %v", err)
	}
	if len(b) == 0 {
		return ""
	}
	return parse(t, bufio.NewReader(bytes.NewReader(b)))
}

// parse reads one answer.
func parse(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	a, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatalf("answer: %v", err)
	}
	defer a.Body.Close()
	body, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatalf("body of an answer: %v", err)
	}
	if kind := a.Header.Get("Content-Type"); kind != "application/json" {
		t.Errorf("%d: an answer of type %q: %s", a.StatusCode, kind, body)
	}
	return fmt.Sprintf("%d %s", a.StatusCode, strings.TrimSuffix(string(body), "\n"))
}
