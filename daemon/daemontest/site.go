package daemontest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon"
	"fieldpost/daemon/api"
	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/broker"
	"fieldpost/daemon/client"
	"fieldpost/daemon/clock"
	"fieldpost/daemon/config"
	"fieldpost/daemon/local"
	"fieldpost/daemon/message"
	"fieldpost/daemon/records"
	"fieldpost/daemon/spool"
	"fieldpost/daemon/systemd"
	"fieldpost/daemon/uplink"
	"fieldpost/sensors"
	"fieldpost/sensors/sim"
)

// Site is one simulated board and one broker, with what is needed to run a
// daemon between them. The connection is real TLS on loopback. Its fields may
// be changed before a daemon is started.
type Site struct {
	T     testing.TB
	Dir   string       // of the configuration, the spool and the runtime files
	Board *sim.Board   // with one bus, i2c-1
	Air   *sim.BME280  // at 0x76 on that bus, at 21.5 °C
	Bus   *sim.Bus     // i2c-1
	Addr  string       // of the broker: host:port
	Files broker.Files // that a client of the broker needs
}

// NewSite makes a site with the embedded broker under this policy; nil allows
// everything.
func NewSite(t testing.TB, policy *awsiot.Policy) *Site {
	t.Helper()
	s := EmptySite(t, t.TempDir())
	b, err := broker.New(broker.Options{Dir: filepath.Join(s.Dir, "certs"), Policy: policy})
	if err != nil {
		t.Fatal(err)
	}
	s.Addr, s.Files = b.Addr(), b.Files()
	Background(t, b.Run)
	return s
}

// EmptySite makes a site without a broker, in this directory. The caller sets
// Addr and Files.
func EmptySite(t testing.TB, dir string) *Site {
	s := &Site{T: t, Dir: dir, Board: sim.New()}
	s.Bus = s.Board.AddBus("i2c-1")
	s.Air = s.Bus.AddBME280(0x76)
	s.Air.SetTemperature(21.5)
	return s
}

// siteConfig has readings, orders and answers on one topic.
const siteConfig = `thing: thing-greenhouse
broker:
  endpoint: %s
readings:
  topic: test/topic
commands:
  topic: test/topic
  answers: test/topic
spool:
  dir: spool
sensors:
  - {name: air, chip: bme280, bus: i2c-1, address: 0x76, every: 100ms}
%s
outputs:
  - {name: pump, pin: GPIO27, active_low: true, initial: off, safe: off}
%s`

// Config writes fieldpost.yaml in the site's directory and loads it: sensor
// "air", output "pump" on GPIO27, and the given lines of sensors and outputs.
func (s *Site) Config(moreSensors, moreOutputs string) *config.Config {
	s.T.Helper()
	path := filepath.Join(s.Dir, "fieldpost.yaml")
	if err := os.WriteFile(path, fmt.Appendf(nil, siteConfig, s.Addr, moreSensors, moreOutputs), 0o600); err != nil {
		s.T.Fatal(err)
	}
	cfg, err := config.Load(path)
	if err != nil {
		s.T.Fatal(err)
	}
	return cfg
}

// Running is a daemon that runs and what it reports. The daemon blocks when
// a channel is full.
type Running struct {
	Daemon *daemon.Daemon
	Stop   func() error        // ends the daemon and gives what Run returned
	Taken  chan message.Record // every record that was taken
	Acked  chan message.Record // every record that the broker has acknowledged
	Linked chan uplink.Status  // see ConnectionChanges
}

// Start runs a daemon with this configuration until [Running.Stop] is called
// or the test ends. It logs into the test's log and has no socket.
func (s *Site) Start(cfg *config.Config) *Running {
	s.T.Helper()
	return s.start(cfg, "")
}

// StartWithSocket is like Start, for a daemon with a unix socket at this path. A reload
// reads the file of this configuration.
func (s *Site) StartWithSocket(cfg *config.Config) (r *Running, socket string) {
	s.T.Helper()
	socket = SocketPath(s.T)
	r = s.start(cfg, socket)
	AwaitStatus(s.T, socket, "answer", func(api.Status) bool { return true })
	return r, socket
}

func (s *Site) start(cfg *config.Config, socket string) *Running {
	s.T.Helper()
	r := &Running{Taken: make(chan message.Record, 4096), Acked: make(chan message.Record, 4096), Linked: make(chan uplink.Status, 256)}
	r.Daemon, r.Stop = s.launch(daemon.Options{
		Config: cfg, LoadConfig: func() (*config.Config, error) { return config.Load(cfg.File) }, Socket: socket, Log: Log(s.T),
		Taken: func(rec message.Record) { r.Taken <- rec }, Acked: func(rec message.Record) { r.Acked <- rec }, Linked: ConnectionChanges(r.Linked),
	})
	return r
}

// SocketPath is a path for a unix socket, in a directory that is removed after
// the test. It is short, since the path of a socket has at most 107 bytes.
func SocketPath(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fieldpost")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "fieldpost.sock")
}

// Launch runs a daemon with these options until stop is called or the test
// ends. It sets Clock, Runtime and Version; Board and Notify where they are nil.
func (s *Site) Launch(o daemon.Options) (stop func() error) {
	s.T.Helper()
	_, stop = s.launch(o)
	return stop
}

func (s *Site) launch(o daemon.Options) (d *daemon.Daemon, stop func() error) {
	s.T.Helper()
	now := s.Clock()
	s.Board.SetMono(func() time.Duration { return now.Now().Mono })
	if o.Board == nil {
		o.Board = s.Board
	}
	o.Clock, o.Runtime, o.Version = now, s.Dir, "test"
	if o.Notify == nil {
		o.Notify = &systemd.Notifier{Send: func(string) error { return nil }}
	}
	d, err := daemon.New(o)
	if err != nil {
		s.T.Fatal(err)
	}
	return d, Background(s.T, d.Run)
}

// Clock is the clock of this machine, taken as synchronised.
func (s *Site) Clock() clock.Clock {
	s.T.Helper()
	now, err := clock.System()
	if err != nil {
		s.T.Fatal(err)
	}
	return clock.Trusted(now)
}

// AwaitLink waits until the daemon is connected and subscribed.
func (r *Running) AwaitLink(t testing.TB) *Running {
	t.Helper()
	Await(t, "link", r.Linked, func(st uplink.Status) bool { return st.Connected })
	return r
}

// AwaitStatus asks the daemon at this socket for its status until ok accepts it.
func AwaitStatus(t testing.TB, socket, what string, ok func(api.Status) bool) api.Status {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		r, err := client.AskStatus(ctx, socket)
		switch {
		case err == nil && ok(r):
			return r
		case ctx.Err() != nil:
			t.Fatalf("no %s: %+v, %v", what, r, err)
		case err != nil && !errors.Is(err, local.ErrNotRunning):
			t.Fatal(err)
		}
		<-again.C
	}
}

// FillSpool leaves n readings of 300 bytes, by sensor "old" in an earlier run,
// in the spool of this configuration. No daemon may run on it.
func (s *Site) FillSpool(cfg *config.Config, n int) {
	s.T.Helper()
	now := s.Clock()
	box, err := records.Open(spool.Options{Dir: cfg.Spool.Dir, AtRisk: cfg.Spool.AtRisk, MaxBytes: cfg.Spool.MaxBytes, Clock: now})
	if err != nil {
		s.T.Fatal(err)
	}
	stop := Background(s.T, box.Run)
	for i := range n {
		err := box.Append(message.Record{
			Kind: message.Reading, Sensor: "old", Run: box.RunNumber(), Seq: uint64(i + 1), Stamp: now.Now(),
			Fields: []sensors.Field{{Name: "text", Value: strings.Repeat("x", 300)}},
		})
		if err != nil {
			s.T.Fatal(err)
		}
	}
	if err := stop(); err != nil {
		s.T.Fatal(err)
	}
	if err := box.Close(); err != nil {
		s.T.Fatal(err)
	}
}
