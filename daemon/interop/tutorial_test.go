package interop

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"fieldpost/daemon/daemontest"
)

// python returns the path of a Python with paho-mqtt.
func python(t *testing.T) string {
	t.Helper()
	for _, path := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(path, "-c", "import paho.mqtt.client").Run() == nil {
			return path
		}
	}
	const missing = "no Python with paho-mqtt; on Debian: apt install python3-paho-mqtt"
	if os.Getenv("FIELDPOST_REQUIRE_MOSQUITTO") == "1" {
		t.Fatalf("FIELDPOST_REQUIRE_MOSQUITTO is set, but there is %s", missing)
	}
	t.Skipf("NOT TESTED with the tutorial's scripts: %s", missing)
	return ""
}

// program is a process whose output the test reads.
type program struct {
	cmd   *exec.Cmd
	lines chan string // of stdout
	ended chan error

	mu  sync.Mutex
	all bytes.Buffer // stdout and stderr
}

// Write receives the process's stderr.
func (p *program) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all.Write(b)
}

func (p *program) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all.String()
}

// launch starts a program and kills it at the end of the test.
func launch(t *testing.T, dir, path string, args ...string) *program {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*daemontest.Patience)
	p := &program{cmd: exec.CommandContext(ctx, path, args...), lines: make(chan string, 100), ended: make(chan error, 1)}
	p.cmd.Dir, p.cmd.Stderr = dir, p
	p.cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(p.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			_, _ = io.WriteString(p, s.Text()+"\n")
			select {
			case p.lines <- s.Text():
			default: // the test reads no more
			}
		}
	}()
	go func() {
		<-done
		p.ended <- p.cmd.Wait()
	}()
	t.Cleanup(func() {
		cancel()
		p.ended <- <-p.ended
	})
	return p
}

// await waits for a line of stdout with a prefix and returns the rest of it.
func (p *program) await(t *testing.T, prefix string) string {
	t.Helper()
	for line := range p.lines {
		if rest, ok := strings.CutPrefix(line, prefix); ok {
			return rest
		}
	}
	t.Fatalf("it ended and never said %q:\n%s", prefix, p)
	return ""
}

// end waits for the end and returns its error.
func (p *program) end() error {
	err := <-p.ended
	p.ended <- err
	return err
}

// The tutorial's own scripts with `fieldpost broker` and its restricted policy. A client
// id that the policy does not name is refused, and the log has the action, the client and
// what would be allowed. With one that it names everything works.
func TestTutorialScripts(t *testing.T) {
	py := python(t)
	dir := t.TempDir()
	binary := filepath.Join(dir, "fieldpost")
	if out, err := exec.Command("go", "build", "-o", binary, "fieldpost/cmd/fieldpost").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	absolute := func(path string) string {
		t.Helper()
		path, err := filepath.Abs(path)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	policy := absolute("../../configs/policies/restricted.json")
	broker := launch(t, dir, binary, "broker", "--dir", "certs", "--listen", "127.0.0.1:0", "--policy", policy)
	endpoint := strings.TrimSpace(broker.await(t, "endpoint"))
	script := func(name, id string) *program {
		t.Helper()
		return launch(t, dir, py, absolute(filepath.Join("testdata", name)), "--endpoint", endpoint, "--client-id", id)
	}

	for _, name := range []string{"publish.py", "subscribe.py"} {
		refused := script(name, "my-laptop1")
		if err := refused.end(); err == nil || strings.Contains(refused.String(), "published") || strings.Contains(refused.String(), "subscribed") {
			t.Errorf("%s as my-laptop1: %v\n%s", name, err, refused)
		}
	}
	for _, want := range []string{"iot:Connect", "my-laptop1", "client/test-*", "client/thing-*"} {
		if !strings.Contains(broker.String(), want) {
			t.Errorf("the broker's log lacks %s:\n%s", want, broker)
		}
	}

	subscriber := script("subscribe.py", "test-123")
	subscriber.await(t, "subscribed 1")
	publisher := script("publish.py", "test-pub")
	if err := publisher.end(); err != nil || strings.Count(publisher.String(), "published") != 5 {
		t.Errorf("publisher: %v\n%s", err, publisher)
	}
	if err := subscriber.end(); err != nil || strings.Count(subscriber.String(), "received test/topic Hello from the tutorial [") != 5 {
		t.Errorf("subscriber: %v\n%s", err, subscriber)
	}
	// The session is kept: messages wait while the subscriber is not connected.
	if err := script("publish.py", "test-456").end(); err != nil {
		t.Error(err)
	}
	again := script("subscribe.py", "test-123")
	if err := again.end(); err != nil || strings.Count(again.String(), "received") != 5 {
		t.Errorf("after a while away: %v\n%s", err, again)
	}
}
