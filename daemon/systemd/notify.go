// Package systemd speaks with the service manager and the journal: readiness,
// status, the watchdog, stored file handles, structured log fields.
//
// Started by hand, without systemd, everything here quietly does nothing and
// the log goes to the terminal as readable text.
//
// Sources: sd_notify(3), sd_watchdog_enabled(3), systemd.journal-fields(7),
// "Native Journal Protocol" and "File Descriptor Store" in systemd's own
// documentation.
package systemd

import (
	"fmt"
	"net"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Notifier tells the service manager how we are. Its methods may be called
// from any goroutine, and take a second at most: a systemd that hangs is an error
// that wraps [os.ErrDeadlineExceeded]. The zero value is ready to use.
type Notifier struct {
	// Send replaces sd_notify(3), for tests; nil is the real one.
	Send func(state string) error
}

// Ready says that start-up is over: the configuration is read, the lines are
// claimed, the loops run.
func (n *Notifier) Ready(status string) error {
	return n.send(daemon.SdNotifyReady + "\nSTATUS=" + status)
}

// Stopping says that an orderly end has begun.
func (n *Notifier) Stopping() error {
	return n.send(daemon.SdNotifyStopping + "\nSTATUS=stopping")
}

// Status gives the line that `systemctl status` shows.
func (n *Notifier) Status(line string) error { return n.send("STATUS=" + line) }

// Watchdog proves that we are alive.
func (n *Notifier) Watchdog() error { return n.send(daemon.SdNotifyWatchdog) }

// Hung says that we are not well, without waiting until the watchdog's time is
// over. systemd knows it from version 243 on; an older one passes it over.
func (n *Notifier) Hung() error { return n.send("WATCHDOG=trigger") }

func (n *Notifier) send(state string) error {
	if n.Send != nil {
		return n.Send(state)
	}
	return notify(state)
}

// notifyPatience is how long systemd may take to make room for a message. The
// socket's queue is full when systemd hangs, and a send waits then for ever.
const notifyPatience = time.Second

// notify sends a message, as go-systemd's SdNotify does, but not without a limit.
// Without NOTIFY_SOCKET it does nothing.
func notify(state string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(notifyPatience)); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	if _, err := conn.Write([]byte(state)); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}

// WatchdogInterval is WatchdogSec of our unit; 0 when we are not watched.
func WatchdogInterval() time.Duration {
	d, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return 0
	}
	return d
}
