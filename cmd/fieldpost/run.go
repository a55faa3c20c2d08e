package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"fieldpost/daemon"
	"fieldpost/daemon/config"
	"fieldpost/daemon/fingerprint"
	"fieldpost/daemon/systemd"

	"github.com/spf13/cobra"
)

// quietLog is the log of a client command: warnings and worse.
func quietLog(c *cobra.Command) *slog.Logger {
	return systemd.NewLogger(c.ErrOrStderr(), slog.LevelWarn)
}

// reader returns what reads the configuration at path again, also when the process is in
// another directory, and names it so that the user of a client command finds it.
func reader(path string) func() (*config.Config, error) {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return func() (*config.Config, error) { return config.Load(path) }
}

// runtimeDir is where the crash record of the outputs is: systemd's
// RuntimeDirectory, or the place it has there.
func runtimeDir() string {
	if d := os.Getenv("RUNTIME_DIRECTORY"); d != "" {
		return d
	}
	return "/run/fieldpost"
}

func recordPath() string { return filepath.Join(runtimeDir(), "outputs") }

// outliveReader keeps the process when nobody reads what it prints any more: a
// closed pipe on standard output or error would end it (package os/signal,
// SIGPIPE), and with it the making safe of the lines. Ctrl-C ends `fieldpost
// run | tee log` in just that order.
func outliveReader() { signal.Ignore(syscall.SIGPIPE) }

func newRun(file *string) *cobra.Command {
	var level slog.LevelVar
	c := &cobra.Command{
		Use:   "run",
		Short: "run the daemon in the foreground",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			outliveReader()
			log := systemd.NewLogger(c.ErrOrStderr(), &level)
			slog.SetDefault(log)
			return run(c.Context(), *file, log)
		},
	}
	c.Flags().TextVar(&level, "log-level", &slog.LevelVar{}, "lowest level to log: DEBUG, INFO, WARN or ERROR")
	return c
}

// run first makes sure that no other daemon uses the same lines, and makes the lines of
// an earlier run safe. Only then does it load the configuration and run the daemon.
func run(ctx context.Context, file string, log *slog.Logger) error {
	hangups := claimHangups()
	free, err := daemon.Own(recordPath(), log)
	if err != nil {
		return logged(log, err)
	}
	defer free()
	held := daemon.TakeOver(recordPath(), hold, log)
	defer held.Close() // what New has not claimed
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
	if err := stand(&o); err != nil {
		return logged(log, err)
	}
	d, err := daemon.New(o)
	if err != nil {
		return logged(log, err)
	}
	stop := reloadOn(hangups, d)
	defer stop()
	return d.Run(ctx)
}

// claimHangups returns where SIGHUP comes that asks for a reload; nil where it means
// something else.
//
// The kernel sends SIGHUP to the processes of a terminal that is closed, and then a pump
// must not stay on: with a controlling terminal SIGHUP ends the daemon. Without one, as
// under systemd, somebody has sent it on purpose, and daemons reload then. Under nohup it
// stays ignored.
func claimHangups() <-chan os.Signal {
	if signal.Ignored(syscall.SIGHUP) || hasTerminal() {
		return nil
	}
	hangups := make(chan os.Signal, 1) // more that come meanwhile ask for the same
	signal.Ignore(syscall.SIGHUP)      // takes it from signalContext
	signal.Notify(hangups, syscall.SIGHUP)
	return hangups
}

// hasTerminal reports whether this process has a controlling terminal, tty(4).
func hasTerminal() bool {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	_ = f.Close() // nothing was written
	return true
}

// reloadOn reloads the daemon's configuration at each signal, until stop is called. The
// daemon's log says what becomes of it.
func reloadOn(hangups <-chan os.Signal, d *daemon.Daemon) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangups:
				_, _ = d.Reload(ctx, "SIGHUP") // logged
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// logged logs an error that ends the start, one record for each problem, so that the
// journal has it with its priority.
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
