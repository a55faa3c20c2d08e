// Package systemd talks to the service manager and the journal: readiness, status, the
// watchdog, stored file handles, structured log fields.
//
// Without systemd, when the program is started by hand, everything here silently does
// nothing, and the log goes to the terminal as readable text.
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

// Notifier reports the state of the daemon to the service manager. Its methods may be called
// from any goroutine and take a second at most; if systemd hangs, the error wraps
// [os.ErrDeadlineExceeded]. The zero value is ready to use.
type Notifier struct {
	// Send replaces sd_notify(3), for tests; nil is the real one.
	Send func(state string) error
}

// Ready says that the start is complete: the configuration is read, the lines are requested,
// the loops run.
func (n *Notifier) Ready(status string) error {
	return n.send(daemon.SdNotifyReady + "\nSTATUS=" + status)
}

// Reloading says that the configuration is being read again; [Notifier.Ready] says that this
// is over, however it ended. systemd needs the time with it for units of Type=notify-reload,
// and ignores it for others.
func (n *Notifier) Reloading() error {
	return n.send(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, monotonic().Microseconds()))
}

// Stopping says that an orderly stop has begun.
func (n *Notifier) Stopping() error {
	return n.send(daemon.SdNotifyStopping + "\nSTATUS=stopping")
}

// Status sets the line that `systemctl status` shows.
func (n *Notifier) Status(line string) error { return n.send("STATUS=" + line) }

// Watchdog feeds the watchdog.
func (n *Notifier) Watchdog() error { return n.send(daemon.SdNotifyWatchdog) }

// Hung triggers the watchdog without waiting until its time is over. systemd supports it from
// version 243 on; older versions ignore it.
func (n *Notifier) Hung() error { return n.send("WATCHDOG=trigger") }

func (n *Notifier) send(state string) error {
	if n.Send != nil {
		return n.Send(state)
	}
	return notify(state)
}

// notifyPatience is how long a message may wait for room in the socket's queue. When systemd
// hangs, the queue is full and a send would wait for ever.
const notifyPatience = time.Second

// notify sends a message like go-systemd's SdNotify, but with a time limit. Without
// NOTIFY_SOCKET it does nothing.
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

// WatchdogInterval returns WatchdogSec of our unit; 0 without a watchdog.
func WatchdogInterval() time.Duration {
	d, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return 0
	}
	return d
}
