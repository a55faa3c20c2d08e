package daemon_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/awsiot/need"
	"fieldpost/daemon/broker"
	"fieldpost/daemon/config"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/message"
	"fieldpost/sensors/sim"
)

// The policy that is generated for plain values allows those of all channels, also where
// only the open device knows their names, and the changes of a line. It needs nothing
// more, and allows nothing more.
func TestGeneratedPolicyAllowsChannels(t *testing.T) {
	s := daemontest.EmptySite(t, t.TempDir())
	sim.AddADS1115(s.Bus, 0x48)
	s.Board.SetRoot(filepath.Join(s.Dir, "root"))
	if err := s.Board.WriteHwmon(0, "supply", "", map[string]string{
		"in0_input": "5000", "in0_label": "Vbus\n", "in1_input": "3300", "in2_input": "1800", "temp1_input": "21500",
	}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(s.Dir, "fieldpost.yaml")
	write := func(endpoint string) {
		text := fmt.Sprintf(`thing: thing-greenhouse
broker: {endpoint: "%s"}
readings: {topic: "home/{thing}/{sensor}/{quantity}"}
spool: {dir: spool}
sensors:
  - {name: air, chip: bme280, bus: i2c-1, address: 0x76, every: 100ms}
  - {name: tank, chip: ads1115, bus: i2c-1, address: 0x48, every: 100ms}
  - {name: supply, chip: hwmon, device: supply, every: 100ms}
  - {name: door, chip: gpio, pin: GPIO17, pull: up, every: 100ms}
`, endpoint)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("broker.example")
	plan, err := config.LoadWithoutFiles(file)
	if err != nil {
		t.Fatal(err)
	}
	policyFor := func(prefix string) *awsiot.Policy {
		docs, err := need.Generate(plan, need.Options{Prefix: prefix})
		if err != nil {
			t.Fatal(err)
		}
		var parts []*awsiot.Policy
		for _, doc := range docs {
			p, err := awsiot.Parse(doc)
			if err != nil {
				t.Fatal(err)
			}
			parts = append(parts, p)
		}
		return awsiot.Merge(parts...)
	}
	const prefix = "arn:aws:iot:eu-west-1:123456789012:"
	if r := need.Simulate(plan, policyFor(prefix), need.Connection(plan), prefix, false); r.Denied != 0 || len(r.Beyond) != 0 {
		t.Errorf("%d denied, beyond: %+v", r.Denied, r.Beyond)
	}
	log := &kept{}
	b, err := broker.New(broker.Options{Dir: filepath.Join(s.Dir, "certs"), Policy: policyFor("arn:aws:iot:*:*:"), Log: slog.New(slog.NewTextHandler(log, nil))})
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
	gate, seen := s.Board.Line("GPIO17"), map[string]bool{}
	for _, want := range []string{"air reading", "tank reading", "supply reading", "door reading", "door edge"} {
		daemontest.Await(t, "acknowledgement: "+want, r.Acked, func(rec message.Record) bool {
			seen[rec.Sensor+" "+string(rec.Kind)] = true
			if seen["door reading"] && !seen["door edge"] {
				high, _ := gate.Level()
				gate.Drive(!high)
			}
			return seen[want]
		})
	}
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	if text := log.String(); strings.Contains(text, "refused") {
		t.Errorf("the broker's log:\n%s", text)
	}
}
