package daemon_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
	until(t, "a connection with pings of its own", l.status, func(s uplink.Status) bool { return s.Connected && s.Ping > 0 })
	if pings := "Received PINGREQ from thing-1"; !m.repeats(pings, m.count(pings)+5) {
		t.Error("no pings came")
	}
	if n := m.count(" as thing-1 ("); n != 3 {
		t.Errorf("%d connections, want 3", n)
	}
	settled(t, l.put("test/topic", 0, 5))
	l.hear(t, 0, 5)
}
