package daemon_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"fieldpost/daemon/uplink"
)

// proxied puts a real HAproxy before the broker, in TCP mode, with its timeouts, and
// gives its address. Where HAproxy is not installed the test is skipped, and says so.
func (m *mosquitto) proxied(timeout string) (addr string) {
	m.t.Helper()
	binary, err := exec.LookPath("haproxy")
	if err != nil {
		if binary = "/usr/sbin/haproxy"; !exists(binary) {
			if os.Getenv("FIELDPOST_REQUIRE_MOSQUITTO") == "1" {
				m.t.Fatalf("FIELDPOST_REQUIRE_MOSQUITTO is set, but %v", err)
			}
			m.t.Skipf("NOT TESTED behind a real proxy: %v; on Debian: apt install haproxy", err)
		}
	}
	addr = fmt.Sprintf("127.0.0.1:%d", freePort(m.t))
	file := filepath.Join(m.t.TempDir(), "haproxy.cfg")
	text := fmt.Sprintf("defaults\n mode tcp\n timeout connect 5s\n timeout client %[1]s\n timeout server %[1]s\nlisten mqtt\n bind %[2]s\n server mosquitto %[3]s\n", timeout, addr, m.Addr)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
	cmd := exec.Command(binary, "-db", "-f", file)
	cmd.Stdout, cmd.Stderr = testWriter{m.t}, testWriter{m.t}
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // where it fails, Wait says why
		_ = cmd.Wait()                          // ended by a signal
	})
	return addr
}

// pings is how many pings a client has sent on the connection that had the most.
func (m *mosquitto) pings(client string) (most int) {
	m.t.Helper()
	log, err := os.ReadFile(filepath.Join(m.dir, "log"))
	if err != nil {
		m.t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(log)) {
		switch {
		case strings.Contains(line, "Received PINGREQ from "+client):
			n++
			most = max(most, n)
		case strings.Contains(line, "Client "+client+" closed its connection"):
			n = 0
		}
	}
	return most
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Behind a real proxy with an idle timeout, on a board that has nothing to send: pings
// go as often as is needed, and the connection lasts.
func TestMosquittoBehindAProxyWithAnIdleTimeout(t *testing.T) {
	m := startMosquitto(t)
	addr := m.proxied("2s")
	l := m.link("thing-1", func(c *uplink.Config) { c.Endpoint = addr }, "test/topic")
	until(t, "a connection with pings of its own", l.status, func(s uplink.Status) bool { return s.Connected && s.PingEvery > 0 })
	// Five pings, one every 0.8 s, are twice the timeout. On a busy machine one may
	// come too late, and another connection is made.
	if !m.shows(func() bool { return m.pings("thing-1") >= 5 }) {
		t.Error("no connection lasted for five pings")
	}
	settled(t, l.put("test/topic", 0, 5))
	l.hear(t, 0, 5)
}
