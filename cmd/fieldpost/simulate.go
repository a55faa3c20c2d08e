package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"fieldpost/daemon"
	"fieldpost/daemon/config"
	"fieldpost/daemon/local"
	"fieldpost/daemon/rehearse"
	"fieldpost/daemon/task"

	"github.com/spf13/cobra"
)

const runHelp = `Run the daemon in the foreground, as the systemd unit does.

With --simulate it runs on a simulated board instead of this machine's: each sensor of
the configuration is a simulated chip at its place, which the real driver reads, and
whose values move; each output is a simulated line. No pin moves and no bus is opened.
Messages go to a broker of its own on loopback, with certificates that it makes, so the
files that the configuration names need not exist. The spool, the socket and the
certificates are in --dir, never in /var/lib/fieldpost or /run/fieldpost. The web page is
served as the configuration says in local.listen. At the start it lists what is
simulated, and what cannot be.

With --broker configured simulated readings go to the broker of the configuration, as if
they were real, and its orders come here. Do not do that while the real board runs: the
broker accepts only one client of an id.`

// The brokers of a simulation.
const (
	brokerStandIn    = "stand-in"
	brokerConfigured = "configured"
)

// simulateOptions say how `run --simulate` runs.
type simulateOptions struct {
	On     bool
	Broker string // stand-in or configured
	Dir    string // "" is in the user's cache
	File   string // the configuration; "" is where it usually is
	Out    io.Writer
	Log    *slog.Logger
}

func (o *simulateOptions) flags(c *cobra.Command) {
	c.Flags().BoolVar(&o.On, "simulate", false, "run on a simulated board, with a broker on loopback")
	c.Flags().StringVar(&o.Broker, "broker", brokerStandIn, "with --simulate, the `broker` to use: stand-in or configured")
	c.Flags().StringVar(&o.Dir, "dir", "", "with --simulate, the `directory` of the spool, the socket and the certificates (default: in the user's cache)")
}

// check refuses options that do not go together.
func (o *simulateOptions) check(c *cobra.Command) error {
	switch {
	case !o.On && (c.Flags().Changed("broker") || c.Flags().Changed("dir")):
		return errors.New("--broker and --dir are only for --simulate")
	case o.Broker != brokerStandIn && o.Broker != brokerConfigured:
		return fmt.Errorf("--broker is %q: want %s or %s", o.Broker, brokerStandIn, brokerConfigured)
	}
	return nil
}

// cacheDir returns a directory in the user's cache.
func cacheDir(name string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a directory for the files of the %s: %w; name one with --dir", name, err)
	}
	return filepath.Join(cache, "fieldpost", name), nil
}

// simulated runs the daemon on a simulated board until ctx ends.
func simulated(ctx context.Context, o simulateOptions) error {
	path, err := find(o.File)
	if err != nil {
		return logged(o.Log, err)
	}
	cfg, err := config.LoadWithoutFiles(path)
	if err != nil {
		return logged(o.Log, err)
	}
	if o.Dir == "" {
		if o.Dir, err = cacheDir("simulated"); err != nil {
			return logged(o.Log, err)
		}
	}
	var unusable error
	if o.Broker == brokerConfigured {
		unusable = rehearse.Unusable(cfg)
	}
	s, err := rehearse.New(rehearse.Options{Config: cfg, Dir: o.Dir, OwnBroker: o.Broker == brokerConfigured && unusable == nil, Log: o.Log})
	if err != nil {
		return logged(o.Log, err)
	}
	defer s.Close()
	describe(o.Out, s, cfg, unusable)
	failed := make(chan error, 4)
	tasks := []*task.Task{task.Start("simulated board", failed, s.Board.Run)}
	if s.Broker != nil {
		tasks = append(tasks, task.Start("broker", failed, s.Broker.Run))
	}
	load := func() (*config.Config, error) { return config.LoadWithoutFiles(path) }
	d, err := daemon.New(s.Daemon(cfg, load, version, o.Log))
	if err != nil {
		return logged(o.Log, errors.Join(err, task.StopAll(5*time.Second, tasks...)))
	}
	running := task.Start("daemon", failed, d.Run)
	var errs []error
	select {
	case <-ctx.Done():
	case err := <-failed:
		errs = append(errs, err)
	}
	errs = append(errs, running.Stop(time.Minute), task.StopAll(5*time.Second, tasks...))
	return errors.Join(errs...)
}

// describe says what is simulated.
func describe(w io.Writer, s *rehearse.Simulation, cfg *config.Config, unusable error) {
	fmt.Fprintf(w, "SIMULATED  nothing here is real: no bus is opened and no pin moves; files in %s\n", s.Dir)
	for _, p := range s.Board.Parts() {
		fmt.Fprintf(w, "sensor     %s: simulated %s, %s\n", p.Sensor, p.Chip, p.Device)
	}
	for _, out := range rehearse.Outputs(cfg) {
		fmt.Fprintf(w, "output     %s: simulated %s\n", out.Name, out.Pin+out.PWM)
	}
	for _, m := range s.Missing {
		fmt.Fprintf(w, "NOT SIMULATED  %s\n", m)
	}
	if unusable != nil {
		fmt.Fprintf(w, "broker     that of the configuration cannot be used: %v\n", unusable)
	}
	if s.Broker == nil {
		fmt.Fprintf(w, "broker     THE REAL ONE, %s: it gets simulated readings\n", cfg.Endpoint())
	} else {
		files := s.Broker.Files()
		fmt.Fprintf(w, "broker     stand-in for %s at mqtts://%s; CA and client certificate in %s\n", cfg.Endpoint(), s.Broker.Addr(), filepath.Dir(files.CA))
	}
	if cfg.Local.Listen != "" {
		fmt.Fprintf(w, "page       http://%s/; fieldpost page -c %s prints it with its token\n", cfg.Local.Listen, cfg.File)
	}
	if local.Supported {
		fmt.Fprintf(w, "try        fieldpost watch --socket %s\n", s.Socket())
		for _, out := range cfg.Outputs[:min(1, len(cfg.Outputs))] {
			fmt.Fprintf(w, "           fieldpost send --socket %s %s on --for 5s\n", s.Socket(), out.Name)
		}
	}
	fmt.Fprintln(w)
}
