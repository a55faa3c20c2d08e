package local

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

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
	t     *testing.T
	doors chan listener // what listen gives; nil is an error
	stop  func()
	done  chan error

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

func newHouse(t *testing.T, calls map[string]Call) *house {
	h := &house{t: t, doors: make(chan listener, 8), done: make(chan error, 1)}
	s := New(Options{Path: "x", Calls: calls, Urgent: []string{"order"}, Health: health.New(func(c health.Change) {
		h.step(c.Subject + " " + string(c.Fault.Code) + " " + c.State())
	})})
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

// asking connects as a user and sends a line.
func (d *door) asking(t *testing.T, uid uint32, line string) net.Conn {
	t.Helper()
	c := d.comeAs(uid)
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		t.Fatalf("ask %s: %v", line, err)
	}
	return c
}

// ask sends a line and gives the answer.
func (d *door) ask(t *testing.T, line string) string {
	t.Helper()
	c := d.asking(t, somebody, line)
	defer c.Close()
	return hear(t, c)
}

func hear(t *testing.T, c net.Conn) string {
	t.Helper()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("hear: %v", err)
	}
	return strings.TrimSuffix(string(b), "\n")
}
