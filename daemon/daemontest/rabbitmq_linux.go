package daemontest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"fieldpost/daemon/broker"
)

// RabbitMQ is a broker that we did not write and that speaks MQTT 3.1.1 only: Debian's, on a free
// port of loopback, with TLS and required client certificates. The certificate's common name
// ("fieldpost") is the user name. That user may publish and subscribe to test/topic and to
// nothing else.
type RabbitMQ struct {
	Addr          string // host:port
	CA, Cert, Key string // a client's three files
	CAKey         string // of CA
}

// StartRabbitMQ starts a broker that runs until the end of the test, which takes it some seconds.
// Its log is printed if the test fails.
//
// If RabbitMQ is not installed the test is skipped, and says so; with
// FIELDPOST_REQUIRE_MOSQUITTO=1 it fails.
func StartRabbitMQ(t testing.TB) *RabbitMQ {
	t.Helper()
	binaries, err := filepath.Glob("/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server")
	if err != nil || len(binaries) == 0 {
		const missing = "there is no rabbitmq-server; on Debian: apt install rabbitmq-server"
		if os.Getenv("FIELDPOST_REQUIRE_MOSQUITTO") == "1" {
			t.Fatalf("FIELDPOST_REQUIRE_MOSQUITTO is set, but %s", missing)
		}
		t.Skipf("NOT TESTED against RabbitMQ: %s", missing)
	}
	dir := t.TempDir()
	files, err := broker.Certificates(filepath.Join(dir, "certs"))
	if err != nil {
		t.Fatal(err)
	}
	port, epmd, dist := freePort(t), freePort(t), freePort(t)
	m := &RabbitMQ{Addr: fmt.Sprintf("127.0.0.1:%d", port), CA: files.CA, Cert: files.Certificate, Key: files.Key, CAKey: files.CAKey}
	put := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	users := put("definitions.json", rabbitUsers)
	conf := put("rabbitmq.conf", strings.Join([]string{
		"listeners.tcp = none",
		"mqtt.listeners.tcp = none",
		"mqtt.listeners.ssl.default = " + m.Addr,
		"ssl_options.cacertfile = " + files.CA,
		"ssl_options.certfile = " + files.ServerCertificate,
		"ssl_options.keyfile = " + files.ServerKey,
		"ssl_options.verify = verify_peer",
		"ssl_options.fail_if_no_peer_cert = true",
		"mqtt.ssl_cert_login = true",
		"ssl_cert_login_from = common_name",
		"mqtt.allow_anonymous = false",
		"load_definitions = " + users,
		"log.console = true",
		"log.file = false",
		"",
	}, "\n"))
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binaries[len(binaries)-1])
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), "HOME="+dir, fmt.Sprintf("RABBITMQ_NODENAME=fieldpost%d@localhost", port),
		"RABBITMQ_MNESIA_BASE="+filepath.Join(dir, "mnesia"), "RABBITMQ_LOG_BASE="+dir, "RABBITMQ_CONFIG_FILE="+conf,
		"RABBITMQ_ENABLED_PLUGINS_FILE="+put("plugins", "[rabbitmq_mqtt].\n"), "RABBITMQ_PID_FILE="+filepath.Join(dir, "pid"),
		"RABBITMQ_CONF_ENV_FILE=/dev/null", "ERL_EPMD_ADDRESS=127.0.0.1", fmt.Sprintf("ERL_EPMD_PORT=%d", epmd), fmt.Sprintf("RABBITMQ_DIST_PORT=%d", dist))
	// RabbitMQ would start this as a daemon that nobody ends.
	names := exec.Command("epmd", "-port", fmt.Sprint(epmd), "-address", "127.0.0.1")
	namesExited, err := StartChild(names)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = names.Process.Kill()
		<-namesExited
	})
	exited, err := StartChild(cmd)
	if err != nil {
		t.Fatal(err)
	}
	group, err := syscall.Getpgid(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-group, syscall.SIGTERM)
		late := time.NewTimer(Patience)
		defer late.Stop()
		select {
		case <-exited:
		case <-late.C:
			_ = syscall.Kill(-group, syscall.SIGKILL)
			<-exited
		}
		log.Close()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("RabbitMQ's log:\n%s", text)
		}
	})
	awaitRabbitMQ(t, log.Name(), exited)
	return m
}

// rabbitUsers are RabbitMQ's users and what they may do.
const rabbitUsers = `{
	"users": [{"name": "fieldpost", "password_hash": "", "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": ""}],
	"vhosts": [{"name": "/"}],
	"permissions": [{"user": "fieldpost", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}],
	"topic_permissions": [{"user": "fieldpost", "vhost": "/", "exchange": "amq.topic", "write": "^test\\.topic$", "read": "^test\\.topic$"}]
}`

// awaitRabbitMQ waits until the log says that it is ready.
func awaitRabbitMQ(t testing.TB, log string, exited <-chan error) {
	t.Helper()
	end := time.NewTimer(3 * Patience)
	defer end.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		text, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "Server startup complete") {
			return
		}
		select {
		case err := <-exited:
			t.Fatalf("RabbitMQ ended: %v", err)
		case <-end.C:
			t.Fatal("RabbitMQ is not ready in time")
		case <-tick.C:
		}
	}
}
