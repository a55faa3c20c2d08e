//go:build rehearsal

package daemon_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"fieldpost/daemon"
	"fieldpost/daemon/api"
	"fieldpost/daemon/broker"
	"fieldpost/daemon/client"
	"fieldpost/daemon/config"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/systemd"
	"fieldpost/daemon/task"
	"fieldpost/daemon/uplink"
	"fieldpost/sensors/sim"
)

// rehearsed is a daemon in which a goroutine is made to panic.
type rehearsed struct {
	t      *testing.T
	site   *daemontest.Site
	d      *daemon.Daemon
	socket string
	file   string // that says what is to go wrong
	linked chan uplink.Status
	other  *sim.Bus // i2c-2, with another sensor
	ended  chan error
	cancel context.CancelFunc

	mu  sync.Mutex
	log bytes.Buffer

	endBroker func() error
}

// Write takes the daemon's log.
func (r *rehearsed) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(p)
}

// lit is an output that is on from the start.
const lit = "  - {name: fan, pin: GPIO5, initial: on, safe: off}"

func newRehearsed(t *testing.T) *rehearsed {
	t.Helper()
	r := &rehearsed{t: t, site: daemontest.EmptySite(t, t.TempDir()), socket: daemontest.SocketPath(t), linked: make(chan uplink.Status, 256)}
	b, err := broker.New(broker.Options{Dir: filepath.Join(r.site.Dir, "certs")})
	if err != nil {
		t.Fatal(err)
	}
	r.site.Addr, r.site.Files = b.Addr(), b.Files()
	r.endBroker = daemontest.Background(t, b.Run)
	r.other = r.site.Board.AddBus("i2c-2")
	r.other.AddTMP102(0x48)
	r.file = filepath.Join(t.TempDir(), "rehearse")
	t.Setenv("FIELDPOST_REHEARSE", r.file)
	return r
}

// start starts the daemon.
func (r *rehearsed) start() {
	r.t.Helper()
	now := r.site.Clock()
	r.site.Board.SetMono(func() time.Duration { return now.Now().Mono })
	cfg := r.site.Config(door+"\n  - {name: deep, chip: tmp102, bus: i2c-2, address: 0x48, every: 100ms}", lit)
	d, err := daemon.New(daemon.Options{
		Config: cfg, LoadConfig: func() (*config.Config, error) { return config.Load(cfg.File) }, Board: r.site.Board, Clock: now,
		Log: systemd.NewLogger(io.MultiWriter(r, daemontest.LogWriter(r.t)), slog.LevelInfo), Runtime: r.site.Dir, Socket: r.socket,
		Notify: &systemd.Notifier{Send: func(string) error { return nil }}, Linked: daemontest.ConnectionChanges(r.linked),
	})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.d, r.cancel, r.ended = d, cancel, make(chan error, 1)
	go func() { r.ended <- d.Run(ctx) }()
}

func (r *rehearsed) awaitLink() {
	r.t.Helper()
	daemontest.Await(r.t, "link", r.linked, func(st uplink.Status) bool { return st.Connected })
}

// let says which goroutine is to panic; "" is none.
func (r *rehearsed) let(panics string) {
	r.t.Helper()
	text := "panic " + panics
	if panics == "" {
		text = ""
	}
	if err := os.WriteFile(r.file, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// ask gives an order through the socket, whatever comes of it.
func (r *rehearsed) ask(action string) {
	_, _ = client.AskOrder(context.Background(), r.socket, "", client.OrderRequest{Output: "pump", Action: action, For: time.Hour, Life: time.Minute})
}

// isOn reports whether the pump and the fan are on, or were when their lines were last
// driven. The pump is active low.
func (r *rehearsed) isOn() (pump, fan bool) {
	high := func(line string) (level bool) {
		for _, c := range r.site.Board.Line(line).History() {
			if c.Driven {
				level = c.High
			}
		}
		return level
	}
	return !high("GPIO27"), high("GPIO5")
}

// Whichever goroutine of the daemon panics: the process lives, all lines are made safe
// and then released in order, Run says which it was and where, and so does the log. The
// next start works.
func TestEveryGoroutineMayPanic(t *testing.T) {
	early := []string{ // those that run from the start
		"output events", "output levels", "output recorder", "order ledger", "order acknowledgements", "order floods", "subscriptions",
		"spool reader", "read", "sampling schedule", "bus worker", "sensor runner", "edges", "bus pass", "local socket file",
		"connection", "packet reader", "packet writer",
	}
	late := map[string]func(r *rehearsed){ // those that run when something happens
		"order":             func(r *rehearsed) { r.site.Publisher("test-mouth")(daemontest.Order("c-1", "on", time.Minute)) },
		"local order":       func(r *rehearsed) { go r.ask("off") },
		"local connections": func(r *rehearsed) { go r.ask("off") },
		"local request":     func(r *rehearsed) { go r.ask("off") },
		"local answer":      func(r *rehearsed) { go r.ask("off") },
		"output removal":    func(r *rehearsed) { go func() { _, _ = r.d.Swap(context.Background(), r.site.Config(door, "")) }() },
		"lost connection":   func(r *rehearsed) { _ = r.endBroker() },
		"network watch":     func(r *rehearsed) { _ = r.endBroker() },
		"held readings":     func(r *rehearsed) { r.other.Stick() }, // its read does not end, and that of the other sensor waits for it
		"local end":         func(r *rehearsed) { r.cancel() },
	}
	for _, name := range early {
		t.Run(name, func(t *testing.T) {
			r := newRehearsed(t)
			r.let(name)
			r.start()
			r.check(name)
		})
	}
	for name, cause := range late {
		t.Run(name, func(t *testing.T) {
			r := newRehearsed(t)
			r.start()
			r.awaitLink()
			daemontest.AwaitStatus(t, r.socket, "answer", func(api.Status) bool { return true })
			r.ask("on")
			if pump, fan := r.isOn(); !pump || !fan {
				t.Fatalf("pump %v, fan %v, want both on", pump, fan)
			}
			r.let(name)
			cause(r)
			r.check(name)
		})
	}
}

// check waits for the end, and starts the daemon again.
func (r *rehearsed) check(name string) {
	r.t.Helper()
	t := r.t
	err := daemontest.Receive(t, "end of the daemon", r.ended)
	r.cancel()
	r.other.Release()
	if !errors.Is(err, task.ErrPanicked) || !strings.Contains(err.Error(), name+": panicked") || !strings.Contains(err.Error(), "rehearsal: "+name+"\ngoroutine ") {
		t.Errorf("Run returned %v", err)
	}
	if pump, fan := r.isOn(); pump || fan {
		t.Errorf("pump %v, fan %v, want both off", pump, fan)
	}
	r.mu.Lock()
	log := r.log.String()
	r.mu.Unlock()
	if !strings.Contains(log, name+": panicked") {
		t.Error("the log does not say so")
	}
	if !strings.Contains(log, "stopped") {
		t.Error("the end was not in order")
	}
	if name == "lost connection" || name == "network watch" {
		return // there is no broker any more
	}
	r.let("")
	r.start()
	r.awaitLink()
	r.cancel()
	if err := daemontest.Receive(t, "end of the daemon", r.ended); err != nil {
		t.Errorf("the next run ended with %v", err)
	}
}
