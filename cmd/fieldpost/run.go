package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"fieldpost/daemon"
	"fieldpost/daemon/config"
	"fieldpost/daemon/durable"
	"fieldpost/daemon/fingerprint"
	"fieldpost/daemon/systemd"
	"fieldpost/daemon/wake"

	"github.com/spf13/cobra"
)

// quietLog is the log of a client command: warnings and worse.
func quietLog(c *cobra.Command) *slog.Logger {
	return systemd.NewLogger(c.ErrOrStderr(), slog.LevelWarn)
}

// reader returns a function that reads the configuration at path again. It
// makes path absolute, so that it works in another directory and errors name a
// file that users find.
func reader(path string) func() (*config.Config, error) {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return func() (*config.Config, error) { return config.LoadSettled(path) }
}

// runtimeDir returns the directory of the outputs' crash record: systemd's
// RuntimeDirectory, or the path that it has under the unit.
func runtimeDir() string {
	if d := os.Getenv("RUNTIME_DIRECTORY"); d != "" {
		return d
	}
	return "/run/fieldpost"
}

func recordPath() string { return filepath.Join(runtimeDir(), "outputs") }

// ignoreSIGPIPE keeps the process running after the reader of its output has
// ended. Otherwise a closed pipe on standard output or error would end it
// (package os/signal, SIGPIPE) before it has made the lines safe. Ctrl-C in
// `fieldpost run | tee log` ends tee first.
func ignoreSIGPIPE() { signal.Ignore(syscall.SIGPIPE) }

func newRun(file *string) *cobra.Command {
	var level slog.LevelVar
	var sim simulateOptions
	c := &cobra.Command{
		Use:     "run",
		Short:   "run the daemon in the foreground",
		Long:    runHelp,
		Example: "  fieldpost run -c fieldpost.yaml\n  fieldpost run --simulate -c fieldpost.yaml",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := sim.check(c); err != nil {
				return usage(c, err)
			}
			ignoreSIGPIPE()
			log := systemd.NewLogger(c.ErrOrStderr(), &level)
			slog.SetDefault(log)
			if sim.On {
				sim.File, sim.Out, sim.Log = *file, c.OutOrStdout(), log
				return simulated(c.Context(), sim)
			}
			return run(c.Context(), *file, log)
		},
	}
	c.Flags().TextVar(&level, "log-level", &slog.LevelVar{}, "lowest level to log: DEBUG, INFO, WARN or ERROR")
	sim.flags(c)
	return c
}

// run makes sure that no other daemon uses the same lines, and makes the lines
// of an earlier run safe. Then it loads the configuration and runs the daemon.
func run(ctx context.Context, file string, log *slog.Logger) error {
	hangups := notifyHangups()
	free, err := daemon.Own(recordPath(), log)
	if err != nil {
		return logged(log, err)
	}
	defer free()
	held := daemon.TakeOver(recordPath(), hold, drivePWM, log)
	defer held.Close() // the lines that New has not taken over
	path, err := find(file)
	if err != nil {
		return logged(log, err)
	}
	cfg, err := config.Load(path)
	if err != nil {
		return logged(log, err)
	}
	o := daemon.Options{
		Config: cfg, LoadConfig: reader(path), Log: log, Notify: &systemd.Notifier{}, Version: version,
		Runtime: runtimeDir(), Fingerprint: fingerprint.Board("/"), Socket: socketPath(), Held: held, Watchdog: systemd.WatchdogInterval(),
	}
	if err := setMachine(&o); err != nil {
		return logged(log, err)
	}
	if why := durable.Volatile(cfg.Spool.Dir); why != "" {
		log.Warn("spool.dir does not survive a power cut: it is "+why, "dir", cfg.Spool.Dir)
	}
	if stop, err := wake.UseKernelTimer(); err == nil { // Go's own cost more, and do as well
		defer stop()
	}
	d, err := daemon.New(o)
	if err != nil {
		return logged(log, err)
	}
	stop := reloadOn(hangups, func(ctx context.Context) { _, _ = d.Reload(ctx, "SIGHUP") }) // logged
	defer stop()
	return d.Run(ctx)
}

// notifyHangups returns a channel of the SIGHUPs that ask for a reload, or nil
// where SIGHUP means something else.
//
// The kernel sends SIGHUP to the processes of a terminal that is closed, and then a pump
// must not stay on: with a controlling terminal SIGHUP ends the daemon. Without one, as
// under systemd, somebody has sent it on purpose, and it reloads, as is usual for
// daemons. Under nohup it stays ignored.
func notifyHangups() <-chan os.Signal {
	if signal.Ignored(syscall.SIGHUP) || hasTerminal() {
		return nil
	}
	hangups := make(chan os.Signal, 1) // one that waits stands for all
	signal.Ignore(syscall.SIGHUP)      // takes it from signalContext
	signal.Notify(hangups, syscall.SIGHUP)
	return hangups
}

// hasTerminal reports whether this process has a controlling terminal (tty(4)).
func hasTerminal() bool {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	_ = f.Close() // nothing was written
	return true
}

// hangupPause is the shortest time between two reloads that SIGHUP asks for, so that a storm
// of them keeps the daemon from nothing and fills no log.
const hangupPause = time.Second

// reloadOn reloads the configuration at each signal, until stop is called. Signals that come
// during a reload or the pause after it are one. reload logs its result; it must not panic.
func reloadOn(hangups <-chan os.Signal, reload func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangups:
				reload(ctx)
			}
			pause := time.NewTimer(hangupPause)
			select {
			case <-ctx.Done():
			case <-pause.C:
			}
			pause.Stop()
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// logged logs an error that ends the start, with one record for each problem,
// so that each has its priority in the journal.
func logged(log *slog.Logger, err error) error {
	var problems config.Errors
	if errors.As(err, &problems) {
		for _, p := range problems {
			log.Error(p.Error())
		}
		return loggedError{err}
	}
	log.Error("start", "err", err)
	return loggedError{err}
}
