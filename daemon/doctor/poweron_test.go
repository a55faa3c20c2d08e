package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon/config"
	"fieldpost/daemon/output"
	"fieldpost/sensors"
	"fieldpost/sensors/board"
	"fieldpost/sensors/sim"
)

// aPi is a board whose lines are those of a Raspberry Pi's chip.
type aPi struct{ *sim.Board }

func (b aPi) Find(line string) (board.LineID, error) {
	id, err := b.Board.Find(line)
	id.Label = "pinctrl-bcm2711"
	return id, err
}

func TestPowerOnLines(t *testing.T) {
	outputs := []output.Config{
		{Name: "pump", Pin: "GPIO27"},
		{Name: "relay", Pin: "P1_15", ActiveLow: true},
		{Name: "vent", Pin: "23", Initial: output.InitialOn, Safe: output.SafeOn},
		{Name: "fan", Pin: "GPIO24", Initial: output.InitialOn},
		{Name: "compressor", Pin: "GPIO25", Initial: output.InitialOn, MinOff: time.Minute},
		{Name: "heater", Pin: "GPIO26", Initial: output.InitialOff, Safe: output.SafeOn, MinOn: time.Minute},
		{Name: "lamp", Pin: "GPIO5", Initial: output.InitialLast},
		{Name: "valve", Pin: "GPIO6", Initial: output.InitialKeep, Safe: output.SafeOn, Drive: board.OpenDrain},
		{Name: "radio", Pin: "GPIO12", Initial: output.InitialLast, Safe: output.SafeKeep},
		{Name: "router", Pin: "GPIO13", Initial: output.InitialKeep, Safe: output.SafeKeep},
		{Name: "relay2", Pin: "GPIO17", Initial: output.InitialOff, Safe: output.SafeKeep, MinOn: time.Minute},
		{Name: "modem", Pin: "GPIO16", Initial: output.InitialOn, Safe: output.SafeKeep},
	}
	want := map[string]string{
		"pump": "gpio=27=op,dl", "relay": "gpio=22=op,dh", "vent": "gpio=23=op,dh", "fan": "gpio=24=op,dh",
		"compressor": "gpio=25=op,dl", "heater": "gpio=26=op,dh", "lamp": "gpio=5=op,dl", "valve": "gpio=6=ip,pn", "modem": "gpio=16=op,dh",
	}
	for name, b := range map[string]board.Board{"no board": nil, "a Pi": aPi{sim.New()}} {
		var out strings.Builder
		powerOn(&config.Config{Outputs: outputs}, b, &out)
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != 1+len(want) || !strings.Contains(lines[0], "config.txt") {
			t.Errorf("%s:\n%s", name, out.String())
		}
		for _, line := range lines[1:] {
			text, output, _ := strings.Cut(strings.TrimSpace(line), " # ")
			if want[output] != strings.TrimSpace(text) {
				t.Errorf("%s: %q for %s, want %q", name, text, output, want[output])
			}
		}
	}
}

// On a Raspberry Pi the lines that a bus is on are the bus's, if a sensor is on it.
func TestCheckBusLines(t *testing.T) {
	b := sim.New()
	b.AddBus("i2c-1")
	sda := []output.Config{{Name: "pump", Pin: "GPIO2"}}
	scl := []sensors.Config{{Name: "door", Chip: "gpio", Options: sensors.GPIO{Pin: "P1_5"}}}
	air := []sensors.Config{{Name: "air", Chip: "bme280", Options: sensors.I2C{Bus: "i2c-1", Address: 0x76}}}
	for _, c := range []struct {
		b    board.Board
		cfg  config.Config
		want string
	}{
		{aPi{b}, config.Config{Sensors: air, Outputs: sda}, `output "pump": line pinctrl-bcm2711:2 (GPIO2) is used by the bus i2c-1 of sensor "air"`},
		{aPi{b}, config.Config{Sensors: append(scl, air...)}, `sensor "door": line pinctrl-bcm2711:3 (GPIO3) is used by the bus i2c-1`},
		{aPi{b}, config.Config{Sensors: scl, Outputs: sda}, ""},
		{b, config.Config{Sensors: append(scl, air...), Outputs: sda}, ""},
	} {
		var out strings.Builder
		bad := checkHardware(&c.cfg, c.b, &out)
		if c.want == "" && (bad != 0 || out.Len() > 0) || c.want != "" && (bad != 1 || !strings.Contains(out.String(), c.want)) {
			t.Errorf("%d problems:\n%swant %q", bad, out.String(), c.want)
		}
	}
}

// One chip that is configured twice, by two names of its bus.
func TestCheckOneChipTwice(t *testing.T) {
	b := sim.New()
	b.AddBus("i2c-1")
	var out strings.Builder
	bad := checkHardware(&config.Config{Sensors: []sensors.Config{
		{Name: "air", Chip: "bme280", Options: sensors.I2C{Bus: "i2c-1", Address: 0x76}},
		{Name: "other", Chip: "bme280", Options: sensors.I2C{Bus: "/dev/i2c-1", Address: 0x77}},
		{Name: "twin", Chip: "bme280", Options: sensors.I2C{Bus: "/dev/i2c-1", Address: 0x76}},
	}}, b, &out)
	if want := `error: sensor "twin": i2c-1 0x76 is already used by sensor "air"`; bad != 1 || !strings.HasPrefix(out.String(), want) {
		t.Errorf("%d problems:\n%swant %q", bad, out.String(), want)
	}
}

// A serial port with two names is one port, and the kernel's console is nobody's.
func TestCheckSerialPorts(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"dev", "sys/class/tty/console"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"dev/ttyAMA0": "", "dev/ttyS0": "", "sys/class/tty/console/active": "tty0 ttyS0\n"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"serial0": "ttyAMA0", "serial1": "ttyS0"} {
		if err := os.Symlink(to, filepath.Join(root, "dev", link)); err != nil {
			t.Fatal(err)
		}
	}
	b := sim.New()
	b.SetRoot(root)
	for _, port := range []string{"ttyAMA0", "serial0", "ttyS0", "serial1"} {
		b.AddMHZ19(port)
	}
	mhz19 := func(name, port string) sensors.Config {
		return sensors.Config{Name: name, Chip: "mhz19", Options: sensors.Serial{Device: port}}
	}
	unit := func(name, port string) sensors.Config {
		return sensors.Config{Name: name, Chip: "sdm120", Options: sensors.ModbusPort{Serial: sensors.Serial{Device: port}, Baud: 2400, UnitID: 1}}
	}
	for _, c := range []struct {
		sensors []sensors.Config
		want    string
	}{
		{[]sensors.Config{mhz19("a", "ttyAMA0"), mhz19("b", "/dev/serial0")}, "error: sensor \"b\": ttyAMA0 is already used by sensor \"a\", as ttyAMA0; give both the same device\n"},
		{[]sensors.Config{unit("a", "/dev/serial0"), unit("b", "/dev/serial0"), mhz19("c", "ttyAMA0")}, "error: sensor \"c\": ttyAMA0 is already used by sensor \"a\", as /dev/serial0; give both the same device\n"},
		{[]sensors.Config{mhz19("a", "/dev/serial1")}, "error: sensor \"a\": ttyS0 is the kernel's console, which writes to it; on a Raspberry Pi switch the login shell on the serial port off in raspi-config, or remove its console= from cmdline.txt\n"},
		{[]sensors.Config{unit("a", "ttyAMA0"), unit("b", "ttyAMA0")}, ""},
	} {
		var out strings.Builder
		if bad := checkHardware(&config.Config{Sensors: c.sensors}, b, &out); out.String() != c.want || bad != strings.Count(c.want, "\n") {
			t.Errorf("%d problems:\n%swant\n%s", bad, out.String(), c.want)
		}
	}
}

func TestPowerOnIsAPisAffair(t *testing.T) {
	var out strings.Builder
	powerOn(&config.Config{Outputs: []output.Config{{Name: "pump", Pin: "GPIO27"}}}, sim.New(), &out)
	powerOn(&config.Config{Outputs: []output.Config{
		{Name: "a", Pin: "gpiochip1:4"}, {Name: "b", Pin: "PIN_LED"}, {Name: "c", Pin: "40"}, {Name: "d", Pin: "no:thing"},
	}}, nil, &out)
	if out.Len() != 0 {
		t.Errorf("printed\n%s", out.String())
	}
}

// Without a board, a Pi's line may be written with its chip's label too.
func TestPowerOnByLabel(t *testing.T) {
	var out strings.Builder
	powerOn(&config.Config{Outputs: []output.Config{{Name: "pump", Pin: "pinctrl-rp1:17"}}}, nil, &out)
	if !strings.Contains(out.String(), "gpio=17=op,dl") {
		t.Errorf("printed\n%s", out.String())
	}
}

// An older systemd lets go of the lines of a stopped unit, and check says what to do.
func TestStoppedUnitsLines(t *testing.T) {
	outputs := &config.Config{Outputs: []output.Config{{Name: "pump", Pin: "GPIO27"}}}
	for _, c := range []struct {
		cfg     *config.Config
		version int
		says    bool
	}{{outputs, 252, true}, {outputs, 253, true}, {outputs, 254, false}, {outputs, 257, false}, {outputs, 0, false}, {&config.Config{}, 252, false}} {
		var out strings.Builder
		stopped(c.cfg, c.version, &out)
		if says := strings.Contains(out.String(), "releases the outputs' lines") && strings.Contains(out.String(), "pull resistor"); says != c.says || !c.says && out.Len() > 0 {
			t.Errorf("systemd %d, %d outputs: %q", c.version, len(c.cfg.Outputs), out.String())
		}
	}
}

// A broker that is given by its address can be all that the unit may reach.
func TestFirewallLines(t *testing.T) {
	for host, want := range map[string]string{
		"192.168.1.5:8883":            "IPAddressAllow=192.168.1.5\n",
		"[fd00::5]:8883":              "IPAddressAllow=fd00::5\n",
		"127.0.0.1":                   "IPAddressAllow=127.0.0.1\n",
		"broker.local":                "",
		"a1-ats.iot.eu.amazonaws.com": "",
	} {
		var out strings.Builder
		cfg := &config.Config{}
		cfg.Broker.Endpoint = host
		firewall(cfg, 257, &out)
		if !strings.HasSuffix(out.String(), want) || want == "" && out.Len() > 0 {
			t.Errorf("%s: %q", host, out.String())
		}
		out.Reset()
		if firewall(cfg, 0, &out); out.Len() > 0 {
			t.Errorf("%s: %q without systemd", host, out.String())
		}
		cfg.Broker.Proxy = "http://192.168.1.1:3128"
		if firewall(cfg, 257, &out); out.Len() > 0 {
			t.Errorf("%s: %q with a proxy", host, out.String())
		}
	}
}

// Who reads the metrics is let in too.
func TestFirewallLinesForMetrics(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:9108":   "IPAddressAllow=192.168.1.5\n  IPAddressAllow=localhost\n",
		"192.168.1.7:9108": "IPAddressAllow=192.168.1.5\n  and an IPAddressAllow= for each machine that reads the metrics\n",
	} {
		var out strings.Builder
		cfg := &config.Config{}
		cfg.Broker.Endpoint, cfg.Local.Metrics = "192.168.1.5:8883", address
		if firewall(cfg, 257, &out); !strings.HasSuffix(out.String(), want) {
			t.Errorf("%s: %q", address, out.String())
		}
	}
}

// With `broker.proxy: none` the broker is reached directly.
func TestFirewallLinesWithoutTheProxy(t *testing.T) {
	var out strings.Builder
	cfg := &config.Config{}
	cfg.Broker.Endpoint, cfg.Broker.Proxy = "192.168.1.5:8883", "none"
	if firewall(cfg, 257, &out); !strings.Contains(out.String(), "IPAddressAllow=192.168.1.5\n") {
		t.Errorf("%q", out.String())
	}
}
