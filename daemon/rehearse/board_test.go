package rehearse

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/sensors"
	"fieldpost/sensors/sim/simboard"
)

const head = `thing: thing-greenhouse
broker:
  endpoint: a1b2c3d4e5-ats.iot.ap-south-1.amazonaws.com
readings:
  topic: test/topic
commands:
  topic: test/topic/commands
  answers: test/topic/answers
`

// keys are the keys of one sensor of each chip that is not on I2C; {N} is a number.
var keys = map[string]string{
	"max31855": "device: spidev0.{N}", "max6675": "device: spidev0.{N}", "max31865": "device: spidev0.{N}", "mcp3008": "device: spidev0.{N}, vref: 3.3", "mcp3208": "device: spidev0.{N}, vref: 3.3",
	"pms5003": "device: ttyUSB{N}", "sds011": "device: ttyUSB{N}", "mhz19": "device: /dev/serial0",
	"sdm120": "device: ttyUSB90", "sdm230": "device: ttyUSB90, unit_id: 2", "sdm630": "device: ttyUSB91", "pzem004t": "device: ttyUSB91, unit_id: 7",
	"modbus":  "device: ttyUSB91, unit_id: 3, registers: [{name: power, register: 0x34, type: f32}, {name: voltage, register: 1, type: u16, scale: 0.1}, {name: energy, register: 6, type: i32, words: low}]",
	"gpio":    "pin: GPIO17",
	"counter": "pin: PIN_METER, measures: water, per_pulse: 10", "frequency": "pin: pinctrl-rp1:22", "ultrasonic": "trigger: GPIO23, echo: GPIO24",
	"hwmon": "device: sht3x", "iio": "device: bme280", "dht11": "at: dht11@4", "dht22": "at: dht11@5", "ds18b20": "device: 28-00000a1b2c3d", "thermal": "zone: cpu-thermal",
	"ina219": "bus: i2c-{N}, shunt: 0.1", "ina226": "bus: i2c-{N}, shunt: 0.1", "ina3221": "bus: i2c-{N}, shunt: 0.1, channels: 1-2", "ads1115": "bus: CH34{N}, channels: 0-1", "ads1015": "bus: i2c-{N}, channels: 0-1",
}

// whole is a configuration with every chip of the catalog, each I2C chip on a bus of its own.
func whole() string {
	var list strings.Builder
	for n, c := range sensors.Catalog() {
		of, ok := keys[c.Name]
		if !ok {
			of = "bus: i2c-{N}"
		}
		every := ""
		if c.EveryMost == 0 {
			every = ", every: 1m"
		}
		fmt.Fprintf(&list, "  - {name: s_%s, chip: %s, %s%s}\n", c.Name, c.Name, strings.ReplaceAll(of, "{N}", fmt.Sprint(n)), every)
	}
	return head + "sensors:\n" + list.String() + `outputs:
  - {name: pump, pin: GPIO27, safe: off}
  - {name: valve, pin: "1-0020:3", safe: off}
  - {name: lamp, pin: "pcf8574:2", safe: off}
  - {name: fan, pwm: "fe20c000.pwm:1", frequency: 25kHz, safe: off}
  - {name: heater, pin: PIN_HEATER, safe: off}
`
}

// still are the chips whose values do not move between two readings: the simulated Bosch chips
// have the raw values of one specimen, and the others count pulses, which Run makes.
var still = []string{"bme680", "bmp180", "bmp388", "bmp390", "counter", "frequency", "gpio"}

// read opens a sensor and reads it, with waits as the sampler has.
func read(c sensors.Chip, b *simboard.Board, cfg sensors.Config) (sensors.Sensor, []sensors.Field, error) {
	s, err := c.Open(b, cfg)
	if err != nil {
		return nil, nil, err
	}
	for start := time.Now(); ; {
		fields, err := s.Sense()
		if !errors.Is(err, sensors.ErrNotReady) || time.Since(start) > c.WarmUp {
			return s, fields, err
		}
		<-time.NewTimer(time.Second).C
	}
}

// Every chip of the catalog is simulated at the place that a configuration gives it, its driver
// reads it, its values move, and it can be cut off and comes back.
func TestEveryChipIsSimulated(t *testing.T) {
	cfg := configOf(t, whole())
	if len(cfg.Sensors) != len(sensors.Catalog()) {
		t.Fatalf("%d sensors", len(cfg.Sensors))
	}
	synctest.Test(t, func(t *testing.T) {
		b := simboard.New(t.TempDir())
		if missing := b.Add(cfg.Sensors, Outputs(cfg)); len(missing) > 0 {
			t.Fatalf("not simulated: %v", missing)
		}
		for i, p := range b.Parts() {
			c, _ := sensors.Lookup(p.Chip)
			b.Move(0)
			s, first, err := read(c, b, cfg.Sensors[i])
			if err != nil {
				t.Errorf("%s: %v", p.Chip, err)
				continue
			}
			p.Cut(true)
			if fields, err := s.Sense(); err == nil && p.Chip != "frequency" && p.Chip != "counter" {
				t.Errorf("%s: cut off, it gave %v", p.Chip, fields)
			}
			_ = s.Close() // nothing answers
			p.Cut(false)
			b.Move(6 * time.Second) // a door is open
			b.Move(75 * time.Second)
			s, then, err := read(c, b, cfg.Sensors[i])
			if err != nil {
				t.Errorf("%s, connected again: %v", p.Chip, err)
				continue
			}
			if reflect.DeepEqual(first, then) != slices.Contains(still, p.Chip) {
				t.Errorf("%s: first %v, then %v", p.Chip, first, then)
			}
			if err := s.Close(); err != nil {
				t.Errorf("%s: close: %v", p.Chip, err)
			}
		}
	})
}

// A part that is kept still has the value that it had, until it may move again.
func TestPartKeptStill(t *testing.T) {
	cfg := configOf(t, head+"sensors:\n  - {name: soil, chip: tmp102, bus: i2c-1}\n")
	b := simboard.New(t.TempDir())
	if missing := b.Add(cfg.Sensors, nil); len(missing) > 0 {
		t.Fatal(missing)
	}
	c, _ := sensors.Lookup("tmp102")
	value := func(at time.Duration) any {
		b.Move(at)
		s, fields, err := read(c, b, cfg.Sensors[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return fields[0].Value
	}
	first := value(0)
	b.Parts()[0].Still(true)
	if then := value(75 * time.Second); then != first {
		t.Errorf("kept still, it went from %v to %v", first, then)
	}
	b.Parts()[0].Still(false)
	if then := value(75 * time.Second); then == first {
		t.Errorf("it does not move again: %v", then)
	}
}
