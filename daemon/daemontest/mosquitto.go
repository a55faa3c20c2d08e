package daemontest

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"fieldpost/daemon/broker"
)

// Mosquitto is a broker that we did not write: Debian's, on a free port of
// loopback, with TLS and required client certificates. The certificate's
// common name ("fieldpost") is the user name.
type Mosquitto struct {
	Addr          string // host:port, the same after each Start
	CA, Cert, Key string // a client's three files
	Dir           string // of its configuration, its state, its log and its certificates
	T             testing.TB

	binary string
	port   int
	lines  []string
	cmd    *exec.Cmd
	exited <-chan error // delivers once, when cmd has ended
}

// StartMosquitto starts a broker that runs until the end of the test, and never longer than its
// process. Lines are
// added to its configuration, such as an acl_file or a plugin; without them
// every client may do anything. Its log is printed when the test fails.
//
// Where mosquitto is not installed the test is skipped, and says so; with
// FIELDPOST_REQUIRE_MOSQUITTO=1 it fails.
func StartMosquitto(t testing.TB, lines ...string) *Mosquitto {
	t.Helper()
	binary, err := findMosquitto()
	if err != nil {
		if os.Getenv("FIELDPOST_REQUIRE_MOSQUITTO") == "1" {
			t.Fatalf("FIELDPOST_REQUIRE_MOSQUITTO is set, but %v", err)
		}
		t.Skipf("NOT TESTED against mosquitto: %v; on Debian: apt install mosquitto", err)
	}
	m := &Mosquitto{T: t, binary: binary, Dir: t.TempDir(), lines: lines}
	files, err := broker.Certificates(filepath.Join(m.Dir, "certs"))
	if err != nil {
		t.Fatal(err)
	}
	m.CA, m.Cert, m.Key = files.CA, files.Certificate, files.Key
	t.Cleanup(func() {
		m.Kill()
		if t.Failed() {
			m.printLog()
		}
	})
	// Another process may take the port between our look and its start.
	for range 3 {
		m.port = freePort(t)
		m.Addr = fmt.Sprintf("127.0.0.1:%d", m.port)
		if err = m.launch(); err == nil {
			return m
		}
	}
	t.Fatal(err)
	return nil
}

// NewMosquittoSite makes a site whose broker is mosquitto; see [StartMosquitto].
func NewMosquittoSite(t testing.TB, lines ...string) (*Site, *Mosquitto) {
	t.Helper()
	m := StartMosquitto(t, lines...)
	s := EmptySite(t, m.Dir) // its certs are where the configuration looks
	s.Addr, s.Files = m.Addr, broker.Files{CA: m.CA, Certificate: m.Cert, Key: m.Key}
	return s, m
}

// findMosquitto also looks where Debian keeps it and only root's PATH does.
func findMosquitto() (string, error) {
	for _, name := range []string{"mosquitto", "/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("mosquitto is not installed")
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func (m *Mosquitto) config() string {
	certs := filepath.Join(m.Dir, "certs")
	lines := []string{
		"per_listener_settings false",
		fmt.Sprintf("listener %d 127.0.0.1", m.port),
		"cafile " + filepath.Join(certs, "AmazonRootCA1.pem"),
		"certfile " + filepath.Join(certs, "server.pem.crt"),
		"keyfile " + filepath.Join(certs, "server.pem.key"),
		"require_certificate true",
		"use_identity_as_username true",
		"allow_anonymous false",
		"persistence true", // sessions outlive Stop, and not Kill
		"persistence_location " + m.Dir + "/",
		"max_queued_messages 100000", // with 0, for no limit, 2.0.11 hangs up on a denied publish
		"log_dest stderr",
		"log_type all",
		"connection_messages true",
	}
	if os.Geteuid() == 0 {
		lines = append(lines, "user root") // else it becomes a user who cannot read the key
	}
	return strings.Join(append(lines, m.lines...), "\n") + "\n"
}

// Start starts the broker again, on the same port, and waits until it answers.
func (m *Mosquitto) Start() {
	m.T.Helper()
	if err := m.launch(); err != nil {
		m.T.Fatal(err)
	}
}

func (m *Mosquitto) launch() error {
	conf := filepath.Join(m.Dir, "mosquitto.conf")
	if err := os.WriteFile(conf, []byte(m.config()), 0o600); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(m.Dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	m.cmd = exec.Command(m.binary, "-c", conf)
	m.cmd.Stdout, m.cmd.Stderr = log, log
	if m.exited, err = StartChild(m.cmd); err != nil {
		m.cmd = nil
		return fmt.Errorf("start mosquitto: %w", err)
	}
	return m.awaitHandshake()
}

// awaitHandshake waits until a client with our files completes a TLS handshake.
func (m *Mosquitto) awaitHandshake() error {
	pair, err := tls.LoadX509KeyPair(m.Cert, m.Key)
	if err != nil {
		return err
	}
	end := time.NewTimer(Patience)
	defer end.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		// Whom we talk to is for the tests to verify, this only knocks.
		conn, err := net.DialTimeout("tcp", m.Addr, Patience)
		if err == nil {
			knock := tls.Client(conn, &tls.Config{ServerName: "localhost", RootCAs: Roots(m.CA), Certificates: []tls.Certificate{pair}})
			err = knock.Handshake()
			_ = conn.Close()
		}
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-end.C:
			return fmt.Errorf("mosquitto does not answer: %w", err)
		case ended := <-m.exited:
			m.cmd = nil
			return fmt.Errorf("mosquitto ended at its start: %v", ended)
		}
	}
}

// Stop ends the broker in order: it stores its sessions and their queues.
func (m *Mosquitto) Stop() {
	m.T.Helper()
	m.signal(syscall.SIGTERM)
}

// Kill ends the broker with SIGKILL: it loses everything since its start.
func (m *Mosquitto) Kill() {
	m.T.Helper()
	m.signal(syscall.SIGKILL)
}

func (m *Mosquitto) signal(how os.Signal) {
	m.T.Helper()
	if m.cmd == nil {
		return
	}
	if err := m.cmd.Process.Signal(how); err != nil && !errors.Is(err, os.ErrProcessDone) {
		m.T.Errorf("end mosquitto: %v", err)
	}
	end := time.NewTimer(Patience)
	defer end.Stop()
	select {
	case <-m.exited:
	case <-end.C:
		m.T.Error("mosquitto does not end")
		_ = m.cmd.Process.Kill()
	}
	m.cmd = nil
}

// Forget ends the broker in order and removes what it has stored.
func (m *Mosquitto) Forget() {
	m.T.Helper()
	m.Stop()
	if err := os.Remove(filepath.Join(m.Dir, "mosquitto.db")); err != nil {
		m.T.Error(err)
	}
}

// CountLog counts how often the broker's log contains this text.
func (m *Mosquitto) CountLog(text string) int {
	m.T.Helper()
	log, err := os.ReadFile(filepath.Join(m.Dir, "log"))
	if err != nil {
		m.T.Fatal(err)
	}
	return strings.Count(string(log), text)
}

// AwaitLog waits until the broker's log contains this text, and reports whether
// it did within [Patience].
func (m *Mosquitto) AwaitLog(text string) bool {
	m.T.Helper()
	return m.AwaitLogTimes(text, 1)
}

// AwaitLogTimes waits until the broker's log contains this text so often.
func (m *Mosquitto) AwaitLogTimes(text string, times int) bool {
	m.T.Helper()
	return m.AwaitState(func() bool { return m.CountLog(text) >= times })
}

// AwaitState calls ok every few milliseconds until it is true, and reports
// whether it was within [Patience].
func (m *Mosquitto) AwaitState(ok func() bool) bool {
	m.T.Helper()
	end := time.NewTimer(Patience)
	defer end.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-end.C:
			return false
		}
	}
	return true
}

// Pings is the number of pings of a client on the connection that had most.
func (m *Mosquitto) Pings(client string) (most int) {
	m.T.Helper()
	log, err := os.ReadFile(filepath.Join(m.Dir, "log"))
	if err != nil {
		m.T.Fatal(err)
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

// TrimLog empties the broker's log when it is larger than 32 MiB.
func (m *Mosquitto) TrimLog() {
	m.T.Helper()
	name := filepath.Join(m.Dir, "log")
	if info, err := os.Stat(name); err != nil {
		m.T.Error(err)
	} else if info.Size() < 32<<20 {
		return
	}
	if err := os.Truncate(name, 0); err != nil {
		m.T.Error(err)
	}
}

func (m *Mosquitto) printLog() {
	log, err := os.ReadFile(filepath.Join(m.Dir, "log"))
	if err != nil {
		m.T.Log(err)
		return
	}
	m.T.Logf("mosquitto's log:\n%s", log[max(0, len(log)-16*1024):])
}

// Roots is a pool of the certificates in a PEM file; empty if it cannot be read.
func Roots(path string) *x509.CertPool {
	roots := x509.NewCertPool()
	text, err := os.ReadFile(path)
	if err == nil {
		roots.AppendCertsFromPEM(text)
	}
	return roots
}
