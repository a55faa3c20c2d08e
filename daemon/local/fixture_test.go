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

// pipeListener is a listener of pipes, for a bubble of synctest.
type pipeListener struct {
	pending chan pendingConn // without a connection: an error of accept
	closed  chan struct{}
	once    sync.Once

	mu   sync.Mutex
	lost bool
}

// pendingConn is a connection of a user.
type pendingConn struct {
	conn net.Conn
	uid  uint32
}

// userID is the user of most connections.
const userID = 4_000_000_000

func newPipeListener() *pipeListener {
	return &pipeListener{pending: make(chan pendingConn), closed: make(chan struct{})}
}

func (d *pipeListener) accept() (net.Conn, Peer, error) {
	select {
	case v := <-d.pending:
		if v.conn == nil {
			return nil, Peer{}, errors.New("too many open files")
		}
		return v.conn, Peer{UID: v.uid, PID: 4242}, nil
	case <-d.closed:
		return nil, Peer{}, net.ErrClosed
	}
}

func (d *pipeListener) intact() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.lost
}

func (d *pipeListener) lose() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lost = true
}

func (d *pipeListener) Close() error {
	d.once.Do(func() { close(d.closed) })
	return nil
}

// testServer is a server that runs in a bubble.
type testServer struct {
	t         *testing.T
	server    *Server
	listeners chan listener // what listen gives; nil is an error
	stop      func()
	done      chan error

	mu    sync.Mutex
	steps []string // what was tried and told
}

func (h *testServer) record(s string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.steps = append(h.steps, s)
}

// recorded gives the steps so far.
func (h *testServer) recorded() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.steps, ", ")
}

// endpoints gives each call a path of its own, /v1/ and its name; "order" is urgent.
func endpoints(calls map[string]Call) (all []Endpoint) {
	for name, call := range calls {
		all = append(all, Endpoint{Route: route(name), Call: call, Urgent: name == "order"})
	}
	for i := range all {
		if all[i].Name == "query" {
			all[i].Query, all[i].Request = api.HistoryQuery{}, nil
		}
	}
	must, plain := route("must"), route("plain")
	must.Optional, plain.Request, plain.Method = false, nil, "GET"
	return append(all, Endpoint{Route: must}, Endpoint{Route: plain})
}

func route(name string) api.Route {
	return api.Route{Name: name, Method: "POST", Path: "/v1/" + name, Request: "anything", Optional: true}
}

func newTestServer(t *testing.T, calls map[string]Call) *testServer {
	h := &testServer{t: t, listeners: make(chan listener, 8), done: make(chan error, 1)}
	s := New(Options{Path: "x", Endpoints: endpoints(calls), Health: health.New(func(c health.Change) {
		h.record(c.Subject + " " + string(c.Fault.Code) + " " + c.State())
	})})
	h.server = s
	s.listen = func(string) (listener, error) {
		h.record("open")
		if l := <-h.listeners; l != nil {
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

// startServer runs a server on one listener.
func startServer(t *testing.T, calls map[string]Call) (*testServer, *pipeListener) {
	h, d := newTestServer(t, calls), newPipeListener()
	h.listeners <- d
	return h, d
}

// end stops the server and gives how long that took.
func (h *testServer) end() time.Duration {
	h.t.Helper()
	before := time.Now()
	h.stop()
	if err := <-h.done; !errors.Is(err, context.Canceled) {
		h.t.Errorf("run ended with %v", err)
	}
	return time.Since(before)
}

// connect connects as most do.
func (d *pipeListener) connect() net.Conn { return d.connectAs(userID) }

// connectAs connects as a user.
func (d *pipeListener) connectAs(uid uint32) net.Conn {
	here, there := net.Pipe()
	d.pending <- pendingConn{there, uid}
	return here
}

// request is a request for a call, after whose answer the connection ends.
func request(call, body string) string {
	return fmt.Sprintf("POST /v1/%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", call, len(body), body)
}

// send connects as a user and sends a request.
func (d *pipeListener) send(t *testing.T, uid uint32, call, body string) net.Conn {
	t.Helper()
	c := d.connectAs(uid)
	if _, err := io.WriteString(c, request(call, body)); err != nil {
		t.Fatalf("ask %s: %v", call, err)
	}
	return c
}

// exchange sends a request and gives the answer.
func (d *pipeListener) exchange(t *testing.T, call, body string) string {
	t.Helper()
	c := d.send(t, userID, call, body)
	defer c.Close()
	return readAnswer(t, c)
}

// readAnswer reads a connection to its end and gives the answer that came, as its
// status and its body; "" where none came.
func readAnswer(t *testing.T, c net.Conn) string {
	t.Helper()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("hear: %v", err)
	}
	if len(b) == 0 {
		return ""
	}
	return parseAnswer(t, bufio.NewReader(bytes.NewReader(b)))
}

// parseAnswer reads one answer.
func parseAnswer(t *testing.T, r *bufio.Reader) string {
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
