package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon/output"
	"fieldpost/sensors"
	"fieldpost/sensors/board"
)

func TestLeastConfiguration(t *testing.T) {
	file := place(t)
	c, err := Parse(file, []byte(base))
	if err != nil {
		t.Fatal(err)
	}
	certs := filepath.Join(filepath.Dir(file), "certs")
	want := &Config{
		Thing: "greenhouse",
		Broker: Broker{
			Endpoint:    "broker.example",
			ClientID:    "greenhouse",
			CA:          filepath.Join(certs, "AmazonRootCA1.pem"),
			Certificate: filepath.Join(certs, "certificate.pem.crt"),
			Key:         filepath.Join(certs, "private.pem.key"),
			KeepAlive:   30 * time.Second, Limits: "auto", Will: "offline", Verify: "auto",
		},
		Readings: Readings{Topic: "field/readings", Linger: 50 * time.Millisecond, Batch: Batch{Within: 500 * time.Millisecond}},
		Commands: Commands{MaxLife: time.Hour, Unstamped: "refuse"},
		Spool:    Spool{Dir: "/var/lib/fieldpost", AtRisk: 5 * time.Second, MaxBytes: 64 << 20, MaxAge: 720 * time.Hour},
		History:  History{Keep: "disk", Quantities: 64},
		File:     file,
		lines:    map[string]int{"": 1, "thing": 1, "broker": 3, "broker.endpoint": 3, "readings": 4, "readings.topic": 4},
	}
	want.Spool.Dir = newLoader(file, false).absolute(want.Spool.Dir)
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
}

// Reading one file leaves no trace in the defaults of the next.
func TestDefaultsAreNotTouched(t *testing.T) {
	good(t, base+"spool: {at_risk: 0, dir: spool}\noutputs: [{name: a, pin: GPIO27, safe: on}]\n")
	if c := good(t, base); c.Spool.AtRisk != 5*time.Second || len(c.Outputs) != 0 {
		t.Errorf("defaults have become %+v", c)
	}
	if outputDefaults.Safe != output.SafeOff {
		t.Error("default of safe has become on")
	}
}

func TestEveryKeyIsRead(t *testing.T) {
	c := good(t, `
thing: "42"
broker:
  endpoint: 10.0.0.1:443
  client_id: board 7
  keep_alive: 20m
  limits: aws
  will: none
  verify: subscribe
readings: {topic: "{thing}/{sensor}", linger: 20ms, batch: {max: 250, within: 2s}}
commands: {topic: "{thing}/orders", answers: "{thing}/done", max_life: 90s}
spool: {dir: mail, at_risk: 1s, max_bytes: 256MiB, max_age: 1h30m}
sensors:
  - {name: air, chip: bme280, bus: i2c-1, address: 0x77, every: 1m}
  - {name: near, chip: tmp102, bus: i2c-1, address: 73}
  - {name: door, chip: gpio, pin: 17, pull: up, active_low: on, debounce: 20ms, max_edges: 250/s}
  - {name: gate, chip: gpio, pin: 18}
  - {name: cpu, chip: thermal, zone: cpu-thermal}
  - {name: levels, chip: mcp3008, device: spidev0.1, vref: 5, channels: "0-2, 7"}
  - {name: breath, chip: mhz19, device: /dev/serial0}
  - {name: mains, chip: hwmon, device: ina219, at: 1-0040, channel: in1}
outputs:
  - {name: pump, pin: GPIO27, active_low: true, drive: open-drain, initial: on, safe: "off", safe_after: 5m, refresh: 30s, max_on: 10m, min_on: 1m, min_off: 3m, interlock: [vent]}
  - {name: vent, pin: GPIO22, safe: true}
  - {name: lamp, pin: GPIO5, safe: keep, initial: last}
`)
	if got := c.Broker; got.ClientID != "board 7" || got.Limits != "aws" || got.Will != "none" || got.Verify != "subscribe" || got.KeepAlive != 20*time.Minute || c.Endpoint() != "10.0.0.1:443" {
		t.Errorf("broker is %+v", got)
	}
	dir := filepath.Join(filepath.Dir(c.File), "mail")
	if want := (Spool{Dir: dir, AtRisk: time.Second, MaxBytes: 256 << 20, MaxAge: 90 * time.Minute}); c.Spool != want {
		t.Errorf("spool is %+v, want %+v", c.Spool, want)
	}
	if want := (Batch{Max: 250, Within: 2 * time.Second}); c.Readings.Batch != want {
		t.Errorf("batch is %+v, want %+v", c.Readings.Batch, want)
	}
	if got := c.Readings.Linger; got != 20*time.Millisecond {
		t.Errorf("linger is %v", got)
	}
	if c.ReadingsTopic("air") != "42/air" || c.ReadingsTopic("") != "42/fieldpost" || c.CommandsTopic() != "42/orders" || c.AnswersTopic() != "42/done" {
		t.Errorf("topics are %q, %q, %q, %q", c.ReadingsTopic("air"), c.ReadingsTopic(""), c.CommandsTopic(), c.AnswersTopic())
	}
	tmp102, _ := sensors.Lookup("tmp102")
	gpio, _ := sensors.Lookup("gpio")
	for i, want := range []sensors.Config{
		{Name: "air", Chip: "bme280", Every: time.Minute, Options: sensors.I2C{Bus: "i2c-1", Address: 0x77}},
		{Name: "near", Chip: "tmp102", Every: tmp102.Every, Options: sensors.I2C{Bus: "i2c-1", Address: 0x49}},
		{Name: "door", Chip: "gpio", Every: gpio.Every, Options: sensors.GPIO{Pin: "17", Pull: board.PullUp, ActiveLow: true, Debounce: 20 * time.Millisecond, MaxEdges: 250}},
		{Name: "gate", Chip: "gpio", Every: gpio.Every, Options: sensors.GPIO{Pin: "18", MaxEdges: sensors.DefaultMaxEdges}},
	} {
		if !reflect.DeepEqual(c.Sensors[i], want) {
			t.Errorf("sensor %d is %+v, want %+v", i, c.Sensors[i], want)
		}
	}
	if want := (sensors.Hwmon{Device: "ina219", At: "1-0040", Channel: "in1"}); c.Sensors[7].Options != want {
		t.Errorf("options are %+v, want %+v", c.Sensors[7].Options, want)
	}
	if want := (sensors.MCP3008{SPI: sensors.SPI{Device: "spidev0.1"}, VRef: 5, Channels: 0x87}); c.Sensors[5].Options != want {
		t.Errorf("options are %+v, want %+v", c.Sensors[5].Options, want)
	}
	if want := (sensors.Serial{Device: "/dev/serial0"}); c.Sensors[6].Options != want {
		t.Errorf("options are %+v, want %+v", c.Sensors[6].Options, want)
	}
	for i, want := range []output.Config{
		{Name: "pump", Pin: "GPIO27", ActiveLow: true, Drive: board.OpenDrain, Initial: output.InitialOn, Safe: output.SafeOff, SafeAfter: 5 * time.Minute, Refresh: 30 * time.Second, MaxOn: 10 * time.Minute, MinOn: time.Minute, MinOff: 3 * time.Minute, Interlock: []string{"vent"}},
		{Name: "vent", Pin: "GPIO22", Drive: board.PushPull, Safe: output.SafeOn, Initial: output.InitialOn},
		{Name: "lamp", Pin: "GPIO5", Drive: board.PushPull, Safe: output.SafeKeep, Initial: output.InitialLast},
	} {
		if !reflect.DeepEqual(c.Outputs[i], want) {
			t.Errorf("output %d is %+v, want %+v", i, c.Outputs[i], want)
		}
	}
}

// The default wait is never longer than the file allows, and 0 is possible.
func TestLinger(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"readings: {topic: t}":                                            50 * time.Millisecond,
		"readings: {topic: t}\nspool: {at_risk: 0}":                       0,
		"readings: {topic: t}\nspool: {at_risk: 80ms}":                    10 * time.Millisecond,
		"readings: {topic: t, linger: 0}":                                 0,
		"readings: {topic: t, linger: 500ms}":                             500 * time.Millisecond,
		"readings: {topic: t, batch: {max: 2}}":                           50 * time.Millisecond,
		"readings: {topic: t, batch: {max: 2, within: 0}}":                0,
		"readings: {topic: t, batch: {max: 2, within: 30ms}}":             30 * time.Millisecond,
		"readings: {topic: t, linger: 7ms, batch: {max: 2, within: 7ms}}": 7 * time.Millisecond,
	} {
		if got := good(t, "thing: a\nbroker: {endpoint: b}\n"+text+"\n").Readings.Linger; got != want {
			t.Errorf("%s: linger is %v, want %v", text, got, want)
		}
	}
}

func TestDefaultsThatDependOnOthers(t *testing.T) {
	c := good(t, base+"commands: {topic: '{thing}/orders'}\nsensors: [{name: air, chip: bme280, bus: i2c-1}]\n")
	if got := c.AnswersTopic(); got != "greenhouse/orders" {
		t.Errorf("answers go to %q, want the topic of orders", got)
	}
	if at := c.Sensors[0].Place(); at.Address != 0x76 {
		t.Errorf("address is %#x, want the chip's usual 0x76", at.Address)
	}
	if c := good(t, base+"outputs: [{name: pump, pin: GPIO27}]\n"); c.CommandsTopic() != "" || c.AnswersTopic() != "" {
		t.Errorf("without commands.topic the topics are %q and %q, want none", c.CommandsTopic(), c.AnswersTopic())
	}
}

// Sections whose lines are all commented out are as good as left out, and
// Windows' line ends and byte order mark do no harm.
func TestAccepted(t *testing.T) {
	for name, text := range map[string]string{
		"empty sections":    base + "spool:\nsensors:\n  # - name: air\noutputs: []\n",
		"byte order mark":   "\ufeff" + base,
		"windows":           strings.ReplaceAll(base, "\n", "\r\n"),
		"document start":    "---\n" + base + "...\n",
		"names that differ": base + "outputs: [{name: a, pin: GPIO1}, {name: A, pin: GPIO2}]\n",
		"two buses":         base + "sensors: [{name: a, chip: bme280, bus: i2c-1}, {name: b, chip: bme280, bus: i2c-0}]\n",
		"basic ingest":      "thing: a\nbroker: {endpoint: b}\nreadings: {topic: $aws/rules/mine/1/2/3/4/5/6/7/8}\n",
		"batch of nothing":  "thing: a\nbroker: {endpoint: b}\nreadings:\n  topic: t\n  batch:\n",
		"batch at once":     "thing: a\nbroker: {endpoint: b}\nreadings: {topic: t, batch: {max: 1000, within: 0}}\n",
		"plain bytes":       base + "spool: {max_bytes: 1048576}\n",
	} {
		t.Run(name, func(t *testing.T) {
			if c := good(t, text); c.Thing == "" {
				t.Error("thing is empty")
			}
		})
	}
}

func TestEndpoint(t *testing.T) {
	for in, want := range map[string]string{
		"broker.example":      "broker.example:8883",
		"broker.example.":     "broker.example.:8883",
		"broker.example:443":  "broker.example:443",
		"my_broker":           "my_broker:8883",
		"192.168.1.2":         "192.168.1.2:8883",
		"::1":                 "[::1]:8883",
		"[::1]:1883":          "[::1]:1883",
		"mqtts://not.checked": "mqtts://not.checked",
	} {
		c := &Config{Broker: Broker{Endpoint: in}}
		if got := c.Endpoint(); got != want {
			t.Errorf("endpoint of %q is %q, want %q", in, got, want)
		}
	}
}

func TestLoad(t *testing.T) {
	file := place(t)
	if err := os.WriteFile(file, []byte(base), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if c.File != file || c.Thing != "greenhouse" {
		t.Errorf("got %+v", c)
	}
}

func TestLoadOfWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	absent := filepath.Join(dir, "absent.yaml")
	_, err := Load(absent)
	if want := absent + ": there is no such file"; err == nil || err.Error() != want || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want %s", err, want)
	}
	_, err = Load(dir)
	if want := dir + ": want a regular file, not a directory"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	large := filepath.Join(dir, "large.yaml")
	if err := os.WriteFile(large, make([]byte, 5<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = Load(large)
	if want := large + ": is larger than 128KiB; this cannot be a configuration of fieldpost"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// Each missing certificate file is named by the place where it was looked for
// and as it was written, on its own line or on its section's.
func TestCertificateFiles(t *testing.T) {
	file := place(t)
	dir := filepath.Dir(file)
	if err := os.Remove(filepath.Join(dir, "certs", "private.pem.key")); err != nil {
		t.Fatal(err)
	}
	text := "thing: a\nreadings: {topic: t}\nbroker:\n  endpoint: b\n  ca: certs\n  certificate: /absent/cert.pem\n"
	_, err := Parse(file, []byte(text))
	want := strings.Join([]string{
		file + ":4: broker.key: file " + filepath.Join(dir, "certs", "private.pem.key") + ": there is no such file (got certs/private.pem.key)",
		file + ":5: broker.ca: file " + filepath.Join(dir, "certs") + ": want a regular file, not a directory (got certs)",
		file + ":6: broker.certificate: file /absent/cert.pem: there is no such file (got /absent/cert.pem)",
	}, "\n")
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Error("the system's error is lost")
	}
}

// An output is at its safe level from the start unless another is asked for.
func TestInitialIsSafeUnlessGiven(t *testing.T) {
	c := good(t, base+"outputs:\n  - {name: a, pin: GPIO27, safe: on}\n  - {name: b, pin: GPIO26}\n  - {name: c, pin: GPIO25, safe: on, initial: off}\n  - {name: d, pin: GPIO24, safe: keep}\n")
	for i, want := range []output.Initial{output.InitialOn, output.InitialOff, output.InitialOff, output.InitialKeep} {
		if got := c.Outputs[i].Initial; got != want {
			t.Errorf("%s: initial %s, want %s", c.Outputs[i].Name, got, want)
		}
	}
}

// Two configurations differ in what has another value, of all keys outside of lists; a line
// is that of the key, or of the section around it.
func TestChangedSettings(t *testing.T) {
	a := good(t, base)
	b := good(t, base+"spool: {at_risk: 0, max_age: 1h}\noutputs: [{name: a, pin: GPIO27}]\ncommands: {topic: orders}\nlocal: {metrics: \"0.0.0.0:9108\", hosts: [pi.local, 192.168.1.5]}\n")
	want := []Change{{"commands.topic", "", "orders"}, {"commands.answers", "", "orders"}, {"spool.at_risk", "5s", "0s"}, {"spool.max_age", "720h0m0s", "1h0m0s"},
		{"local.metrics", "", "0.0.0.0:9108"}, {"local.hosts", "", "pi.local, 192.168.1.5"}}
	got := slices.DeleteFunc(ChangedSettings(a, b), func(c Change) bool {
		return strings.HasPrefix(c.Path, "broker.") || c.Path == "readings.linger" || c.Path == "spool.dir"
	})
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := ChangedSettings(b, b); got != nil {
		t.Errorf("with itself: %v", got)
	}
	lines := strings.Count(base, "\n")
	for path, want := range map[string]int{"thing": 1, "spool": lines + 1, "spool.max_age": lines + 1, "spool.max_bytes": lines + 1, "commands.answers": lines + 3, "nowhere": 0} {
		if got := b.Line(path); got != want {
			t.Errorf("%s: line %d, want %d", path, got, want)
		}
	}
}
