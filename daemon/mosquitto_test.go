package daemon_test

import (
	"crypto/tls"
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

// mosquitto is a broker that we did not write: Debian's, on a free port of
// loopback, with TLS, client certificates required, and the certificate's
// common name ("fieldpost") as the user name.
type mosquitto struct {
	Addr          string // host:port, the same after each Start
	CA, Cert, Key string // a client's three files

	t      *testing.T
	binary string
	dir    string
	port   int
	lines  []string
	cmd    *exec.Cmd
	exited chan error // delivers once, when cmd has ended
}

// startMosquitto starts one that lives until the end of the test. Lines are
// added to its configuration: an acl_file or a plugin; without, every client
// may do anything. What it logs is printed when the test fails.
//
// Where mosquitto is not installed the test is skipped, and says so; with
// FIELDPOST_REQUIRE_MOSQUITTO=1 it fails.
func startMosquitto(t *testing.T, lines ...string) *mosquitto {
	t.Helper()
	binary, err := findMosquitto()
	if err != nil {
		if os.Getenv("FIELDPOST_REQUIRE_MOSQUITTO") == "1" {
			t.Fatalf("FIELDPOST_REQUIRE_MOSQUITTO is set, but %v", err)
		}
		t.Skipf("NOT TESTED against mosquitto: %v; on Debian: apt install mosquitto", err)
	}
	m := &mosquitto{t: t, binary: binary, dir: t.TempDir(), lines: lines}
	files, err := broker.Certificates(filepath.Join(m.dir, "certs"))
	if err != nil {
		t.Fatal(err)
	}
	m.CA, m.Cert, m.Key = files.CA, files.Certificate, files.Key
	t.Cleanup(func() {
		m.Kill()
		if t.Failed() {
			m.tell()
		}
	})
	// Another process may take the port between our look and its start.
	for range 3 {
		m.port = freePort(t)
		m.Addr = fmt.Sprintf("127.0.0.1:%d", m.port)
		if err = m.try(); err == nil {
			return m
		}
	}
	t.Fatal(err)
	return nil
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

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func (m *mosquitto) config() string {
	certs := filepath.Join(m.dir, "certs")
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
		"persistence_location " + m.dir + "/",
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

// Start starts it again, on the same port, and waits until it answers.
func (m *mosquitto) Start() {
	m.t.Helper()
	if err := m.try(); err != nil {
		m.t.Fatal(err)
	}
}

func (m *mosquitto) try() error {
	conf := filepath.Join(m.dir, "mosquitto.conf")
	if err := os.WriteFile(conf, []byte(m.config()), 0o600); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(m.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	m.cmd = exec.Command(m.binary, "-c", conf)
	m.cmd.Stdout, m.cmd.Stderr = log, log
	if err := m.cmd.Start(); err != nil {
		return fmt.Errorf("start mosquitto: %w", err)
	}
	m.exited = make(chan error, 1)
	go func(cmd *exec.Cmd, exited chan<- error) { exited <- cmd.Wait() }(m.cmd, m.exited)
	return m.answers()
}

// answers waits until a client with our files gets through the handshake.
func (m *mosquitto) answers() error {
	pair, err := tls.LoadX509KeyPair(m.Cert, m.Key)
	if err != nil {
		return err
	}
	end := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		// Whom we talk to is for the tests to verify, this only knocks.
		conn, err := net.DialTimeout("tcp", m.Addr, patience)
		if err == nil {
			knock := tls.Client(conn, &tls.Config{ServerName: "localhost", RootCAs: rootsOf(m.CA), Certificates: []tls.Certificate{pair}})
			err = knock.Handshake()
			_ = conn.Close()
		}
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-end:
			return fmt.Errorf("mosquitto does not answer: %w", err)
		case ended := <-m.exited:
			m.cmd = nil
			return fmt.Errorf("mosquitto ended at its start: %v", ended)
		}
	}
}

// Stop ends it in order: it writes down sessions and what is queued for them.
func (m *mosquitto) Stop() {
	m.t.Helper()
	m.end(syscall.SIGTERM)
}

// Kill ends it on the spot; it forgets everything since its start.
func (m *mosquitto) Kill() {
	m.t.Helper()
	m.end(syscall.SIGKILL)
}

func (m *mosquitto) end(how os.Signal) {
	m.t.Helper()
	if m.cmd == nil {
		return
	}
	if err := m.cmd.Process.Signal(how); err != nil && !errors.Is(err, os.ErrProcessDone) {
		m.t.Errorf("end mosquitto: %v", err)
	}
	select {
	case <-m.exited:
	case <-time.After(patience):
		m.t.Error("mosquitto does not end")
		_ = m.cmd.Process.Kill()
	}
	m.cmd = nil
}

// count gives how often its log has this in it.
func (m *mosquitto) count(text string) int {
	m.t.Helper()
	log, err := os.ReadFile(filepath.Join(m.dir, "log"))
	if err != nil {
		m.t.Fatal(err)
	}
	return strings.Count(string(log), text)
}

// says waits until its log has this in it: it writes when it gets to it.
func (m *mosquitto) says(text string) bool {
	m.t.Helper()
	return m.repeats(text, 1)
}

// repeats waits until its log has this in it so often.
func (m *mosquitto) repeats(text string, times int) bool {
	m.t.Helper()
	return m.shows(func() bool { return m.count(text) >= times })
}

// shows waits until ok says that its log is as it should be.
func (m *mosquitto) shows(ok func() bool) bool {
	m.t.Helper()
	end := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			return false
		}
	}
	return true
}

func (m *mosquitto) tell() {
	log, err := os.ReadFile(filepath.Join(m.dir, "log"))
	if err != nil {
		m.t.Log(err)
		return
	}
	m.t.Logf("mosquitto's log:\n%s", log[max(0, len(log)-16*1024):])
}
