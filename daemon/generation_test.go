package daemon

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"fieldpost/daemon/config"
	"fieldpost/daemon/health"
	"fieldpost/daemon/output"
	"fieldpost/sensors"
)

// While the parts follow, faults may be about what is there, what was and what comes; a
// name that changes hands is already the new one's.
func TestEitherSubject(t *testing.T) {
	got := either(
		[]health.Subject{{Name: "air", Kind: health.Sensor}, {Name: "lock", Kind: health.Output}},
		[]health.Subject{{Name: "lock", Kind: health.Sensor}, {Name: "gone", Kind: health.Output}},
	)
	if want := []health.Subject{{Name: "air", Kind: health.Sensor}, {Name: "lock", Kind: health.Output}, {Name: "gone", Kind: health.Output}}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestSensorChanges(t *testing.T) {
	air := sensors.Config{Name: "air", Chip: "bme280", Every: time.Second, Options: sensors.I2C{Bus: "i2c-1", Address: 0x76}}
	other := air
	other.Options = sensors.I2C{Bus: "i2c-1", Address: 0x77}
	soil, door := sensors.Config{Name: "soil", Chip: "tmp102"}, sensors.Config{Name: "door", Chip: "gpio"}
	for _, c := range []struct {
		old, next []sensors.Config
		want      SensorChanges
	}{
		{nil, nil, SensorChanges{}},
		{[]sensors.Config{air, soil}, []sensors.Config{soil, air}, SensorChanges{Kept: []string{"soil", "air"}}},
		{[]sensors.Config{air, soil}, []sensors.Config{other, door}, SensorChanges{Changed: []string{"air"}, Removed: []string{"soil"}, Added: []string{"door"}}},
	} {
		got := sensorChanges(c.old, c.next)
		if fmt.Sprint(got) != fmt.Sprint(c.want) || got.Any() != (len(c.want.Changed) > 0) {
			t.Errorf("%v to %v: %+v", c.old, c.next, got)
		}
	}
}

// The session holds what is subscribed to and the echo's topic, once; a clean one
// holds nothing.
func TestSessionOfAGeneration(t *testing.T) {
	p := &process{}
	cfg := &config.Config{Thing: "thing"}
	cfg.Readings.Topic, cfg.Commands.Topic, cfg.Broker.Verify = "r/{thing}", "o/{thing}", "subscribe"
	session := func() string { return fmt.Sprint(p.newGeneration(cfg, nil).session) }
	if got := session(); got != "[r/thing]" {
		t.Errorf("without outputs: %s", got)
	}
	cfg.Outputs = []output.Config{{Name: "pump"}}
	if got := session(); got != "[o/thing r/thing]" {
		t.Errorf("with one: %s", got)
	}
	cfg.Readings.Topic = "o/{thing}"
	if got := session(); got != "[o/thing]" {
		t.Errorf("all on one topic: %s", got)
	}
	cfg.Commands.Unstamped = "accept"
	if got := session(); got != "[]" {
		t.Errorf("a clean one: %s", got)
	}
}

// Every key of the spool needs a restart, also one that is yet to be thought of.
func TestEveryKeyOfTheSpoolNeedsARestart(t *testing.T) {
	for i := range reflect.TypeFor[config.Spool]().NumField() {
		before, after := &config.Config{Thing: "thing"}, &config.Config{Thing: "thing"}
		switch f := reflect.ValueOf(&after.Spool).Elem().Field(i); f.Kind() {
		case reflect.String:
			f.SetString("other")
		default:
			f.SetInt(7)
		}
		if refuse(before, after) == nil {
			t.Errorf("spool.%s changes", reflect.TypeFor[config.Spool]().Field(i).Name)
		}
	}
}

// What says the same to the link is the same for it, whatever functions it is given; what
// differs is not.
func TestSameLink(t *testing.T) {
	var beats health.Heartbeats
	var before *generation
	p := &process{linkBeat: beats.Register("link")}
	of := func(change func(*config.Config)) *generation {
		cfg := &config.Config{Thing: "thing"}
		cfg.Broker.Endpoint, cfg.Broker.ClientID, cfg.Readings.Topic = "a.example", "thing", "r"
		change(cfg)
		return p.newGeneration(cfg, before)
	}
	first := of(func(*config.Config) {})
	before = first
	for name, c := range map[string]struct {
		change func(*config.Config)
		want   bool
	}{
		"nothing":   {func(*config.Config) {}, true},
		"a sensor":  {func(c *config.Config) { c.Sensors = []sensors.Config{{Name: "air", Chip: "bme280"}} }, true},
		"client id": {func(c *config.Config) { c.Broker.ClientID = "other" }, false},
		"a file":    {func(c *config.Config) { c.Broker.Key = "other.key" }, false},
		"topic":     {func(c *config.Config) { c.Readings.Topic = "other" }, false},
		"will":      {func(c *config.Config) { c.Broker.Will = "none" }, false},
	} {
		if got := sameLink(first, of(c.change)); got != c.want {
			t.Errorf("%s changes: same is %v", name, got)
		}
	}
}
