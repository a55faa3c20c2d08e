package daemon_test

import (
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"

	"fieldpost/daemon"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/systemd"
)

// A systemd that does not read its notification socket: the daemon starts, its
// timers act, orders are answered, and it ends in order.
func TestHungNotifySocket(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	path := filepath.Join(s.Dir, "notify")
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
	heard, say := s.Listen("test-ear"), s.Publisher("test-mouth")
	stop := s.Launch(daemon.Options{
		Config: s.Config("", "  - {name: fan, pin: GPIO5, max_on: 200ms}"), Notify: n, Watchdog: 3 * time.Second,
		Log: daemontest.Log(t),
	})
	daemontest.Await(t, "online", heard, daemontest.Has("state", "online"))
	for i := range 3 {
		id := fmt.Sprint("c-", i)
		say(fmt.Sprintf(`{"id":%q,"output":"fan","action":"on","expires":%q}`, id, time.Now().Add(time.Minute).Format(time.RFC3339)))
		daemontest.Await(t, "answer", heard, func(m map[string]any) bool { return m["kind"] == "answer" && m["id"] == id && m["status"] == "done" })
		daemontest.Await(t, "max_on", heard, func(m map[string]any) bool { return m["kind"] == "event" && m["cause"] == "max_on" })
	}
	if err := stop(); err != nil {
		t.Errorf("the stop: %v", err)
	}
}
