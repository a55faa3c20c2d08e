package daemon_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/awsiot/need"
	"fieldpost/daemon/broker"
	"fieldpost/daemon/client"
	"fieldpost/daemon/config"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/message"
)

// kept keeps what several goroutines write.
type kept struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (k *kept) Write(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.buf.Write(p)
}

func (k *kept) String() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.buf.String()
}

// The policy that is generated for a configuration is all that the daemon needs: it
// connects with its session and will, publishes readings, events and answers,
// receives orders, says goodbye, and nothing is refused. The package need has no
// other way to know what the daemon really asks for.
func TestGeneratedPolicyIsEnough(t *testing.T) {
	for name, tc := range map[string]struct{ will, unstamped string }{
		"a session and a will": {"offline", "refuse"},
		"a will":               {"offline", "accept"},
		"a session":            {"none", "refuse"},
		"neither of the two":   {"none", "accept"},
	} {
		t.Run(name, func(t *testing.T) {
			s := daemontest.EmptySite(t, t.TempDir())
			file := filepath.Join(s.Dir, "fieldpost.yaml")
			write := func(endpoint string) {
				text := fmt.Sprintf(`thing: thing-greenhouse
broker: {endpoint: "%s", will: %s}
readings: {topic: "farm/{thing}/{sensor}"}
commands: {topic: "farm/{thing}/orders", answers: "farm/{thing}/answers", unstamped: %s}
spool: {dir: spool}
sensors:
  - {name: air, chip: bme280, bus: i2c-1, address: 0x76, every: 100ms}
outputs:
  - {name: pump, pin: GPIO27}
`, endpoint, tc.will, tc.unstamped)
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write("broker.example")
			plan, err := config.LoadWithoutFiles(file)
			if err != nil {
				t.Fatal(err)
			}
			docs, err := need.Generate(plan, need.Options{Prefix: "arn:aws:iot:*:*:", Sender: true})
			if err != nil || len(docs) != 1 {
				t.Fatal(len(docs), err)
			}
			policy, err := awsiot.Parse(docs[0])
			if err != nil {
				t.Fatal(err)
			}
			log := &kept{}
			b, err := broker.New(broker.Options{Dir: filepath.Join(s.Dir, "certs"), Policy: policy, Log: slog.New(slog.NewTextHandler(log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			s.Addr, s.Files = b.Addr(), b.Files()
			daemontest.Background(t, b.Run)
			write(s.Addr)
			cfg, err := config.Load(file)
			if err != nil {
				t.Fatal(err)
			}
			r := s.Start(cfg)
			kinds := map[message.Kind]bool{}
			acked := func(kind message.Kind) {
				t.Helper()
				for !kinds[kind] {
					kinds[daemontest.Receive(t, "acknowledgement of "+string(kind), r.Acked).Kind] = true
				}
			}
			acked(message.Reading)
			order := client.OrderRequest{Output: "pump", Action: "on", Life: time.Minute}
			a, _, err := client.SendOrder(context.Background(), cfg, "thing-greenhouse-send-ab12", order, daemontest.Patience, slog.New(slog.DiscardHandler))
			if err != nil || a.Status != "done" {
				t.Errorf("order: %+v, %v", a, err)
			}
			acked(message.Answer)
			acked(message.Status)
			if err := r.Stop(); err != nil {
				t.Fatal(err)
			}
			if text := log.String(); strings.Contains(text, "refused") || !strings.Contains(text, "client=thing-greenhouse-send-ab12") {
				t.Errorf("the broker's log:\n%s\nthe policy:\n%s", text, docs[0])
			}
		})
	}
}
