// Package rehearse runs a user's own configuration on a simulated board, with the stand-in for
// AWS IoT Core on loopback: a [Simulation]. [Run] leads one through faults, and judges what the
// daemon made of each by the promises of daemon/DESIGN.md.
//
// Nothing here opens hardware or a connection beyond loopback: the board is one in memory, and
// the configuration that the daemon gets has the stand-in's address and certificates instead of
// the user's.
package rehearse

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"fieldpost/daemon"
	"fieldpost/daemon/broker"
	"fieldpost/daemon/clock"
	"fieldpost/daemon/config"
	"fieldpost/daemon/durable"
	"fieldpost/daemon/systemd"
	"fieldpost/sensors/sim/simboard"
)

// Simulation is the board that a configuration describes, in memory, and a broker on loopback.
// Its methods may be called from one goroutine at a time.
type Simulation struct {
	// Dir has the certificates, the spool and the socket of the simulation, and nothing else.
	Dir string
	// Board is the simulated board. Its values move while its Run runs.
	Board *simboard.Board
	// Broker serves while its Run runs; nil if the configuration's own is used.
	Broker *broker.Broker
	// Missing is what the board does not simulate.
	Missing []simboard.Missing
	// Clock is this machine's, taken as synchronised.
	Clock clock.Clock

	lock *os.File // held while the directory is ours
}

// Options say what a simulation is made of.
type Options struct {
	Config *config.Config
	// Dir is a directory that the simulation may fill; it is created.
	Dir string
	// OwnBroker has the daemon connect to the configuration's broker, not to the stand-in.
	OwnBroker bool
	Log       *slog.Logger
}

// certificatesIn is the directory of the stand-in's certificates.
const certificatesIn = "certs"

// New makes the board, the broker and their directory. The broker listens but does not serve.
// The directory is another simulation's until that is closed: the error says so.
func New(o Options) (*Simulation, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("simulate: %w", err)
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("simulate: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("simulate: %w", err)
	}
	if err := durable.Lock(lock); err != nil {
		if errors.Is(err, durable.ErrLocked) {
			err = fmt.Errorf("another simulation uses %q: end it, or name another directory with --dir", dir)
		}
		return nil, errors.Join(fmt.Errorf("simulate: %w", err), lock.Close())
	}
	s := &Simulation{Dir: dir, lock: lock}
	if err := s.fill(o); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Close lets others use the directory. Call it when nothing of the simulation runs any more.
func (s *Simulation) Close() error { return s.lock.Close() }

// fill makes everything in the directory.
func (s *Simulation) fill(o Options) error {
	root := filepath.Join(s.Dir, "root")
	if err := errors.Join(os.RemoveAll(root), os.MkdirAll(root, 0o700)); err != nil {
		return fmt.Errorf("simulate: %w", err)
	}
	s.Board = simboard.New(root)
	s.Board.KeepOnRelease(true) // as a Raspberry Pi's kernel does
	system, err := clock.System()
	if err != nil {
		return fmt.Errorf("simulate: %w", err)
	}
	s.Clock = clock.Trusted(system)
	s.Board.SetMono(func() time.Duration { return s.Clock.Now().Mono })
	if !o.OwnBroker {
		if s.Broker, err = broker.New(broker.Options{Dir: filepath.Join(s.Dir, certificatesIn), Log: o.Log}); err != nil {
			return err
		}
	}
	s.Fit(o.Config)
	return nil
}

// Fit adds what a configuration has and the board has not, and changes Missing to what cannot be
// simulated.
func (s *Simulation) Fit(cfg *config.Config) { s.Missing = s.Board.Add(cfg.Sensors, Outputs(cfg)) }

// Outputs returns the lines and channels that a configuration drives. Any goroutine.
func Outputs(cfg *config.Config) (outputs []simboard.Output) {
	for _, o := range cfg.Outputs {
		outputs = append(outputs, simboard.Output{Name: o.Name, Pin: o.Pin, PWM: o.PWM, Drive: o.Drive})
	}
	return outputs
}

// Config returns a copy of a configuration for this simulation: with a spool in its directory
// and, unless it uses the configuration's own, with its broker.
func (s *Simulation) Config(cfg *config.Config) *config.Config {
	c := *cfg
	c.Spool.Dir = filepath.Join(s.Dir, "spool")
	if s.Broker == nil {
		return &c
	}
	return standIn(&c, s.Broker.Addr(), certificatesOf(s))
}

// certificatesOf returns the directory of the stand-in's certificates.
func certificatesOf(s *Simulation) string { return filepath.Join(s.Dir, certificatesIn) }

// standIn returns a copy of a configuration with the stand-in broker at this address, whose
// certificates are in that directory, instead of its own.
func standIn(cfg *config.Config, addr, certificates string) *config.Config {
	c := *cfg
	c.Broker.Endpoint = addr
	c.Broker.CA = filepath.Join(certificates, "AmazonRootCA1.pem")
	c.Broker.Certificate = filepath.Join(certificates, "certificate.pem.crt")
	c.Broker.Key = filepath.Join(certificates, "private.pem.key")
	c.Broker.Username, c.Broker.PasswordFile = "", ""
	c.Broker.Proxy, c.Broker.ALPN = "none", ""
	c.Broker.Provisioning = config.Provisioning{}
	return &c
}

// Socket returns the path of the simulated daemon's socket.
func (s *Simulation) Socket() string { return filepath.Join(s.Dir, "fieldpost.sock") }

// Daemon returns the options of a daemon on this simulation. load reads the configuration again;
// nil where it cannot be.
func (s *Simulation) Daemon(cfg *config.Config, load func() (*config.Config, error), version string, log *slog.Logger) daemon.Options {
	o := daemon.Options{
		Config: s.Config(cfg), Board: s.Board, Clock: s.Clock, Log: log, Notify: &systemd.Notifier{}, Version: version,
		Runtime: s.Dir, Socket: s.Socket(),
	}
	if load != nil {
		o.LoadConfig = func() (*config.Config, error) {
			again, err := load()
			if err != nil {
				return nil, err
			}
			if missing := s.again(again); len(missing) > 0 {
				log.Warn("not simulated, so it will not answer", "what", missing)
			}
			return s.Config(again), nil
		}
	}
	return o
}

// again is Fit for a goroutine of its own: it leaves Missing as it is.
func (s *Simulation) again(cfg *config.Config) []simboard.Missing {
	before := *s
	before.Fit(cfg)
	return before.Missing
}

// Unusable returns why the broker of a configuration cannot be used from here: a file of the
// credentials cannot be read. nil if it may be usable.
func Unusable(cfg *config.Config) error {
	var errs []error
	for _, path := range []string{cfg.Broker.CA, cfg.Broker.Certificate, cfg.Broker.Key, cfg.Broker.PasswordFile} {
		if path == "" {
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		_ = f.Close() // nothing was written
	}
	return errors.Join(errs...)
}
