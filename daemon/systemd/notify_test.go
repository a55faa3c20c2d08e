//go:build unix

package systemd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// TestNotify has a real notify socket receive what the service manager would.
func TestNotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	var n Notifier
	for _, c := range []struct {
		call func() error
		want string
	}{
		{func() error { return n.Ready("connecting") }, "READY=1\nSTATUS=connecting"},
		{func() error { return n.Status("all well") }, "STATUS=all well"},
		{n.Watchdog, "WATCHDOG=1"},
		{n.Hung, "WATCHDOG=trigger"},
		{n.Stopping, "STOPPING=1\nSTATUS=stopping"},
	} {
		if err := c.call(); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 256)
		k, err := l.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(b[:k]); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

// A service manager that does not read its socket holds up nobody for long.
func TestNotifyHung(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	var n Notifier
	for range 100_000 { // more than any queue holds
		if err = n.Watchdog(); err != nil {
			break
		}
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
	b := make([]byte, 256)
	if _, err := l.Read(b); err != nil {
		t.Fatal(err)
	}
	if err := n.Watchdog(); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

// Without a service manager nothing happens, and nothing fails.
func TestNotifyNobody(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	var n Notifier
	if err := n.Ready(""); err != nil {
		t.Error(err)
	}
	t.Setenv("WATCHDOG_USEC", "")
	if got := WatchdogInterval(); got != 0 {
		t.Errorf("interval %v, want 0", got)
	}
}

func TestWatchdogInterval(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", "30000000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	if got := WatchdogInterval(); got != 30*time.Second {
		t.Errorf("interval %v, want 30s", got)
	}
	t.Setenv("WATCHDOG_PID", "1")
	if got := WatchdogInterval(); got != 0 {
		t.Errorf("interval for another process %v, want 0", got)
	}
}

// A reload is announced with the time of the clock by which systemd tells it from what came
// before, in microseconds.
func TestNotifyReloading(t *testing.T) {
	var sent string
	n := Notifier{Send: func(state string) error {
		sent = state
		return nil
	}}
	before := monotonic().Microseconds()
	if err := n.Reloading(); err != nil {
		t.Fatal(err)
	}
	var at int64
	if k, err := fmt.Sscanf(sent, "RELOADING=1\nMONOTONIC_USEC=%d", &at); k != 1 || err != nil || at < before || at > monotonic().Microseconds() {
		t.Errorf("got %q; it was %d before", sent, before)
	}
	if uptime, err := os.ReadFile("/proc/uptime"); err == nil { // without time asleep, so not before
		var s float64
		if _, err := fmt.Sscan(string(uptime), &s); err != nil || float64(at) > (s+1)*1e6 || at == 0 {
			t.Errorf("%d µs, but the machine has been up for %v s", at, s)
		}
	}
}
