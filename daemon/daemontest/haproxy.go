package daemontest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// BehindHAProxy runs HAProxy in TCP mode before the broker and gives its address.
// timeout is its idle timeout in both directions, as in its configuration ("2s").
// Where HAProxy is not installed the test is skipped, and says so; with
// FIELDPOST_REQUIRE_MOSQUITTO=1 it fails.
func (m *Mosquitto) BehindHAProxy(timeout string) (addr string) {
	m.T.Helper()
	binary, err := exec.LookPath("haproxy")
	if err != nil {
		if binary = "/usr/sbin/haproxy"; !exists(binary) {
			if os.Getenv("FIELDPOST_REQUIRE_MOSQUITTO") == "1" {
				m.T.Fatalf("FIELDPOST_REQUIRE_MOSQUITTO is set, but %v", err)
			}
			m.T.Skipf("NOT TESTED behind a real proxy: %v; on Debian: apt install haproxy", err)
		}
	}
	addr = fmt.Sprintf("127.0.0.1:%d", freePort(m.T))
	file := filepath.Join(m.T.TempDir(), "haproxy.cfg")
	text := fmt.Sprintf("defaults\n mode tcp\n timeout connect 5s\n timeout client %[1]s\n timeout server %[1]s\nlisten mqtt\n bind %[2]s\n server mosquitto %[3]s\n", timeout, addr, m.Addr)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		m.T.Fatal(err)
	}
	cmd := exec.Command(binary, "-db", "-f", file)
	cmd.Stdout, cmd.Stderr = LogWriter(m.T), LogWriter(m.T)
	exited, err := StartChild(cmd)
	if err != nil {
		m.T.Fatal(err)
	}
	m.T.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		<-exited                                // by a signal
	})
	return addr
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
