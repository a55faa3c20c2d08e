package doctor_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon/broker"
	"fieldpost/daemon/config"
	"fieldpost/daemon/doctor"
	"fieldpost/sensors/sim"
)

// machine is one to be examined: its board, and what its configuration names.
type machine struct {
	t     *testing.T
	dir   string
	board *sim.Board
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, dir: t.TempDir(), board: sim.New()}
	m.board.AddBus("i2c-1").AddBME280(0x76)
	if _, err := broker.Certificates(filepath.Join(m.dir, "certs")); err != nil {
		t.Fatal(err)
	}
	return m
}

// config loads a configuration with more sensors and outputs, in YAML.
func (m *machine) config(moreSensors, moreOutputs string) *config.Config {
	m.t.Helper()
	path := filepath.Join(m.dir, "fieldpost.yaml")
	text := fmt.Appendf(nil, `thing: thing-greenhouse
broker: {endpoint: "localhost:8883"}
readings: {topic: test/topic}
commands: {topic: test/topic, answers: test/topic}
spool: {dir: spool}
sensors:
  - {name: air, chip: bme280, bus: i2c-1, address: 0x76, every: 100ms}
%s
outputs:
  - {name: pump, pin: GPIO27}
%s
`, moreSensors, moreOutputs)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		m.t.Fatal(err)
	}
	cfg, err := config.Load(path)
	if err != nil {
		m.t.Fatal(err)
	}
	return cfg
}

// Check names everything that would keep the daemon from its work.
func TestCheck(t *testing.T) {
	s := newMachine(t)
	var out bytes.Buffer
	cfg := s.config("", "")
	if err := doctor.Check(cfg, doctor.Machine{Board: s.board}, time.Now(), &out); err != nil || !strings.Contains(out.String(), "ok (1 sensors, 1 outputs") {
		t.Errorf("a good one: %v\n%s", err, out.String())
	}
	out.Reset()
	other, err := broker.Certificates(filepath.Join(s.dir, "other"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(other.Key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cfg.Broker.Key, key, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg = s.config("  - {name: soil, chip: tmp102, bus: i2c-7, every: 1s}\n  - {name: door, chip: gpio, pin: no-such-line}",
		"  - {name: fan, pin: 'fieldpost-sim:27'}")
	err = doctor.Check(cfg, doctor.Machine{Board: s.board}, time.Now(), &out)
	if !errors.Is(err, config.ErrUnusable) || !strings.Contains(err.Error(), "4 problems") {
		t.Errorf("a bad one: %v", err)
	}
	for _, want := range []string{"does not belong", `sensor "soil"`, `sensor "door"`, `output "fan"`, `also used by output "pump"`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("not said: %s\n%s", want, out.String())
		}
	}
	s.board.Line("GPIO22").Hold("gpio-keys")
	s.board.AddBus("i2c-1").Own(0x48, "tmp102")
	cfg = s.config("  - {name: soil, chip: tmp102, bus: i2c-1, every: 1s}\n  - {name: cpu, chip: thermal, zone: 0}\n"+
		"  - {name: door, chip: gpio, pin: GPIO24}\n  - {name: key, chip: gpio, pin: GPIO22}",
		"  - {name: fan, pin: 'fieldpost-sim:24'}\n  - {name: lamp, pin: 'fieldpost-sim:22'}")
	out.Reset()
	if err := doctor.Check(cfg, doctor.Machine{Board: s.board}, time.Now(), &out); !errors.Is(err, config.ErrUnusable) {
		t.Errorf("what others have: %v", err)
	}
	for _, want := range []string{
		`sensor "soil": address 0x48 on i2c-1 is used by the kernel driver tmp102`,
		`sensor "cpu": open thermal: no thermal zone`,
		`sensor "key": line fieldpost-sim:22 (GPIO22) is held by gpio-keys`,
		`output "fan": line fieldpost-sim:24 (GPIO24) is also used by sensor "door"`,
		`output "lamp": line fieldpost-sim:22 (GPIO22) is also used by sensor "key"`,
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("not said: %s\n%s", want, out.String())
		}
	}
	if err := doctor.Check(cfg, doctor.Machine{Board: s.board}, time.Now().AddDate(20, 0, 0), &out); err == nil || !strings.Contains(out.String(), "expired") {
		t.Errorf("in twenty years: %v\n%s", err, out.String())
	}
}
