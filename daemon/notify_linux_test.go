package daemon_test

import (
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"fieldpost/daemon"
	"fieldpost/daemon/systemd"
)

// A systemd that does not read its notification socket: the daemon starts, its
// timers act, orders are answered, and it ends in order.
func TestHungNotifySocket(t *testing.T) {
	s := newSite(t, nil)
	path := filepath.Join(s.dir, "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	n := &systemd.Notifier{}
	for range 100_000 { // more than any queue holds
		if err = n.Watchdog(); err != nil {
			break
		}
	}
	if err == nil {
		t.Fatal("the socket takes everything")
	}
	heard, say := s.ear("test-ear"), s.mouth("test-mouth")
	stop := s.launch(daemon.Options{
		Config: s.config("", "  - {name: fan, pin: GPIO5, max_on: 200ms}"), Notify: n, Watchdog: 3 * time.Second,
		Log: slog.New(systemd.NewLogger(testWriter{t}, slog.LevelInfo).Handler()),
	})
	until(t, "online", heard, is("state", "online"))
	for i := range 3 {
		id := fmt.Sprint("c-", i)
		say(fmt.Sprintf(`{"id":%q,"output":"fan","action":"on","expires":%q}`, id, time.Now().Add(time.Minute).Format(time.RFC3339)))
		until(t, "answer", heard, func(m map[string]any) bool { return m["kind"] == "answer" && m["id"] == id && m["status"] == "done" })
		until(t, "max_on", heard, func(m map[string]any) bool { return m["kind"] == "event" && m["cause"] == "max_on" })
	}
	if err := stop(); err != nil {
		t.Errorf("the stop: %v", err)
	}
}
