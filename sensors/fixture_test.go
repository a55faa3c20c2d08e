package sensors_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/sensors"
	"fieldpost/sensors/board"
	"fieldpost/sensors/sim"
)

// fixture puts a chip on a simulated board for the contract tests, removes it and puts it
// back.
type fixture struct {
	config  sensors.Config
	nowhere any                                // options of an absent chip, unless it is on an I2C bus or a line
	chip    func(*sim.Bus) *sim.Chip           // an I2C chip, on i2c-1
	zeros   bool                               // bytes that are all 0 are a valid measurement
	set     func(*testing.T, *sim.Board)       // anything else
	cut     func(*testing.T, *sim.Board, bool) // removes it, or puts it back
}

// fixtures has one for every chip of the catalog.
var fixtures = map[string]fixture{
	"bme280":  {chip: func(b *sim.Bus) *sim.Chip { return b.AddBME280(0x76).Chip }},
	"bmp280":  {chip: func(b *sim.Bus) *sim.Chip { return b.AddBMP280(0x76).Chip }},
	"tmp102":  {chip: func(b *sim.Bus) *sim.Chip { return b.AddTMP102(0x48).Chip }},
	"lm75":    {chip: func(b *sim.Bus) *sim.Chip { return b.AddLM75(0x48, 9).Chip }},
	"lm75b":   {chip: func(b *sim.Bus) *sim.Chip { return b.AddLM75(0x48, 11).Chip }},
	"pct2075": {chip: func(b *sim.Bus) *sim.Chip { return b.AddLM75(0x37, 11).Chip }},
	"sht3x":   {chip: func(b *sim.Bus) *sim.Chip { return sim.AddSHT3x(b, 0x44).Chip }},
	"sht4x":   {chip: func(b *sim.Bus) *sim.Chip { return sim.AddSHT4x(b, 0x44).Chip }},
	"shtc3":   {chip: func(b *sim.Bus) *sim.Chip { return sim.AddSHTC3(b).Chip }},
	"aht10":   {chip: func(b *sim.Bus) *sim.Chip { return sim.AddAHT10(b).Chip }},
	"aht20":   {chip: func(b *sim.Bus) *sim.Chip { return sim.AddAHT20(b).Chip }},
	"hdc302x": {chip: func(b *sim.Bus) *sim.Chip { return sim.AddHDC302x(b, 0x44).Chip }},
	"htu21d":  {chip: func(b *sim.Bus) *sim.Chip { return sim.AddHTU21D(b).Chip }},
	"sht21":   {chip: func(b *sim.Bus) *sim.Chip { return sim.AddHTU21D(b).Chip }},
	"si7021":  {chip: func(b *sim.Bus) *sim.Chip { return sim.AddSi7021(b).Chip }},
	"ina219": {
		config: sensors.Config{Options: sensors.INA{I2C: sensors.I2C{Bus: "i2c-1"}, Shunt: 0.1}},
		chip:   func(b *sim.Bus) *sim.Chip { return sim.AddINA219(b, 0x40).Chip },
	},
	"ina226": {
		config: sensors.Config{Options: sensors.INA{I2C: sensors.I2C{Bus: "i2c-1"}, Shunt: 0.1}},
		chip:   func(b *sim.Bus) *sim.Chip { return sim.AddINA226(b, 0x40).Chip },
	},
	"ina260": {chip: func(b *sim.Bus) *sim.Chip { return sim.AddINA260(b, 0x40).Chip }},
	"ina3221": {
		config: sensors.Config{Options: sensors.INA3221Options{I2C: sensors.I2C{Bus: "i2c-1"}, Shunt: 0.1, Channels: 0b1110}},
		chip:   func(b *sim.Bus) *sim.Chip { return sim.AddINA3221(b, 0x40).Chip },
	},
	"ads1015": {
		config: sensors.Config{Options: sensors.ADS1115{I2C: sensors.I2C{Bus: "i2c-1"}, Channels: 0x0F, Range: 4.096, Scale: 1}},
		chip:   func(b *sim.Bus) *sim.Chip { return sim.AddADS1015(b, 0x48).Chip },
	},
	"ads1115": {
		config: sensors.Config{Options: sensors.ADS1115{I2C: sensors.I2C{Bus: "i2c-1"}, Channels: 0x0F, Range: 4.096, Scale: 1}},
		chip:   func(b *sim.Bus) *sim.Chip { return sim.AddADS1115(b, 0x48).Chip },
	},
	"bh1750":   {chip: func(b *sim.Bus) *sim.Chip { return sim.AddBH1750(b, 0x23).Chip }, zeros: true},
	"mcp9808":  {chip: func(b *sim.Bus) *sim.Chip { return sim.AddMCP9808(b, 0x18).Chip }},
	"mlx90614": {chip: func(b *sim.Bus) *sim.Chip { return sim.AddMLX90614(b, 0x5A).Chip }},
	"tmp117":   {chip: func(b *sim.Bus) *sim.Chip { return sim.AddTMP117(b, 0x48).Chip }},
	"max31855": {
		config:  sensors.Config{Options: sensors.SPI{Device: "spidev0.0"}},
		nowhere: sensors.SPI{Device: "spidev1.0"},
		set:     func(_ *testing.T, b *sim.Board) { b.AddMAX31855("spidev0.0") },
		cut:     cutPort("spidev0.0", func(b *sim.Board) { b.AddMAX31855("spidev0.0") }),
	},
	"max6675": {
		config:  sensors.Config{Options: sensors.SPI{Device: "spidev0.0"}},
		nowhere: sensors.SPI{Device: "spidev1.0"},
		set:     func(_ *testing.T, b *sim.Board) { b.AddMAX6675("spidev0.0") },
		cut:     cutPort("spidev0.0", func(b *sim.Board) { b.AddMAX6675("spidev0.0") }),
	},
	"max31865": {
		config:  sensors.Config{Options: sensors.MAX31865{SPI: sensors.SPI{Device: "spidev0.0"}, Wires: 3, Nominal: 100, Reference: 430, Mains: 50}},
		nowhere: sensors.MAX31865{SPI: sensors.SPI{Device: "spidev1.0"}},
		set:     func(_ *testing.T, b *sim.Board) { b.AddMAX31865("spidev0.0") },
		cut:     cutPort("spidev0.0", func(b *sim.Board) { b.AddMAX31865("spidev0.0") }),
	},
	"mcp3208": {
		config:  sensors.Config{Options: sensors.MCP3008{SPI: sensors.SPI{Device: "spidev0.0"}, VRef: 3.3, Channels: 0x0F}},
		nowhere: sensors.MCP3008{SPI: sensors.SPI{Device: "spidev1.0"}},
		set:     func(_ *testing.T, b *sim.Board) { b.AddMCP3208("spidev0.0") },
		cut:     cutPort("spidev0.0", func(b *sim.Board) { b.AddMCP3208("spidev0.0") }),
	},
	"pms5003": {
		config:  sensors.Config{Options: sensors.Serial{Device: "ttyS0"}},
		nowhere: sensors.Serial{Device: "ttyS1"},
		set:     func(_ *testing.T, b *sim.Board) { b.AddPMS5003("ttyS0") },
		cut:     cutPort("ttyS0", func(b *sim.Board) { b.AddPMS5003("ttyS0") }),
	},
	"sds011": {
		config:  sensors.Config{Options: sensors.Serial{Device: "ttyS0"}},
		nowhere: sensors.Serial{Device: "ttyS1"},
		set:     func(_ *testing.T, b *sim.Board) { b.AddSDS011("ttyS0") },
		cut:     cutPort("ttyS0", func(b *sim.Board) { b.AddSDS011("ttyS0") }),
	},
	"modbus": {
		config:  sensors.Config{Options: sensors.Modbus{ModbusPort: modbusPort("ttyS0", 9600), Registers: []sensors.ModbusRegister{{Name: "power", Register: 0x34, Function: 4, Type: "f32", Words: "high", Scale: 1}, {Name: "voltage", Function: 3, Type: "f32", Words: "high", Scale: 1}}}},
		nowhere: sensors.Modbus{ModbusPort: modbusPort("ttyS1", 9600)},
		set:     func(_ *testing.T, b *sim.Board) { b.AddSDM("ttyS0", 9600, 1) },
		cut:     cutPort("ttyS0", func(b *sim.Board) { b.AddSDM("ttyS0", 9600, 1) }),
	},
	"sdm120":   meterFixture(2400, func(b *sim.Board) { b.AddSDM("ttyS0", 2400, 1) }),
	"sdm230":   meterFixture(2400, func(b *sim.Board) { b.AddSDM("ttyS0", 2400, 1) }),
	"sdm630":   meterFixture(9600, func(b *sim.Board) { b.AddSDM("ttyS0", 9600, 3) }),
	"pzem004t": meterFixture(9600, func(b *sim.Board) { b.AddPZEM("ttyS0") }),
	"ezoph":    {config: ezoAt(25), chip: func(b *sim.Bus) *sim.Chip { return sim.AddEZO(b, "pH", 0x63).Chip }},
	"ezoec":    {config: ezoAt(25), chip: func(b *sim.Bus) *sim.Chip { return sim.AddEZO(b, "EC", 0x64).Chip }},
	"ezodo":    {config: ezoAt(20), chip: func(b *sim.Bus) *sim.Chip { return sim.AddEZO(b, "D.O.", 0x61).Chip }},
	"ezoorp":   {chip: func(b *sim.Bus) *sim.Chip { return sim.AddEZO(b, "ORP", 0x62).Chip }},
	"ezortd":   {chip: func(b *sim.Bus) *sim.Chip { return sim.AddEZO(b, "RTD", 0x66).Chip }},
	"sgp30": {
		config: sensors.Config{Options: sensors.SGP30{I2C: sensors.I2C{Bus: "i2c-1"}, Temperature: 25, Humidity: 50}},
		chip:   func(b *sim.Bus) *sim.Chip { return sim.AddSGP30(b).Chip },
	},
	"sgp40": {
		config: sensors.Config{Options: sensors.SGP4x{I2C: sensors.I2C{Bus: "i2c-1"}, Temperature: 25, Humidity: 50}},
		chip:   func(b *sim.Bus) *sim.Chip { return sim.AddSGP40(b).Chip },
	},
	"sgp41": {
		config: sensors.Config{Options: sensors.SGP4x{I2C: sensors.I2C{Bus: "i2c-1"}, Temperature: 25, Humidity: 50}},
		chip:   func(b *sim.Bus) *sim.Chip { return sim.AddSGP41(b).Chip },
	},
	"scd30": {chip: func(b *sim.Bus) *sim.Chip { return sim.AddSCD30(b).Chip }},
	"scd4x": {chip: func(b *sim.Bus) *sim.Chip { return sim.AddSCD4x(b).Chip }},
	"sps30": {chip: func(b *sim.Bus) *sim.Chip { return sim.AddSPS30(b).Chip }},
	"bme680": {
		config: sensors.Config{Options: sensors.BME680{I2C: sensors.I2C{Bus: "i2c-1"}, Gas: true}},
		chip:   func(b *sim.Bus) *sim.Chip { return sim.AddBME680(b, 0x76).Chip },
	},
	"bmp180":   {chip: func(b *sim.Bus) *sim.Chip { return sim.AddBMP180(b).Chip }},
	"bmp388":   {chip: func(b *sim.Bus) *sim.Chip { return sim.AddBMP388(b, 0x76).Chip }},
	"bmp390":   {chip: func(b *sim.Bus) *sim.Chip { return sim.AddBMP390(b, 0x76).Chip }},
	"tsl2561":  {chip: func(b *sim.Bus) *sim.Chip { return sim.AddTSL2561(b, 0x39).Chip }},
	"tsl2591":  {chip: func(b *sim.Bus) *sim.Chip { return sim.AddTSL2591(b).Chip }},
	"veml7700": {chip: func(b *sim.Bus) *sim.Chip { return sim.AddVEML7700(b).Chip }},
	"gpio":     {config: sensors.Config{Options: sensors.GPIO{Pin: "GPIO17"}}, cut: cutLine("GPIO17")},
	"counter": {
		// With idle 0 it has a rate from the first reading on.
		config: sensors.Config{Options: sensors.CounterOptions{PulseLine: sensors.PulseLine{Pin: "GPIO17"}, Measures: "water", PerPulse: 10, MaxRate: 500}},
		cut:    cutLine("GPIO17"),
	},
	"frequency": {
		config: sensors.Config{Options: sensors.Frequency{PulseLine: sensors.PulseLine{Pin: "GPIO17"}, Idle: 2 * time.Second}},
		cut:    cutLine("GPIO17"),
	},
	"ultrasonic": {
		config: sensors.Config{Options: sensors.Ultrasonic{Trigger: "GPIO23", Echo: "GPIO17", Air: 20}},
		set:    func(_ *testing.T, b *sim.Board) { sim.AddHCSR04(b, "GPIO23", "GPIO17") },
		cut:    cutLine("GPIO17"),
	},
	"hwmon": {
		config:  sensors.Config{Options: sensors.Hwmon{Device: "sht3x"}},
		nowhere: sensors.Hwmon{Device: "sht4x"},
		set:     setHwmon,
		cut: func(t *testing.T, b *sim.Board, away bool) {
			if !away {
				setHwmon(t, b)
				return
			}
			if err := os.RemoveAll(filepath.Join(b.Root(), "sys/class/hwmon/hwmon2")); err != nil {
				t.Fatal(err)
			}
		},
	},
	"iio": {
		config:  sensors.Config{Options: sensors.IIO{Device: "bme280"}},
		nowhere: sensors.IIO{Device: "bme680"},
		set:     setIIO("bme280", "1-0076"),
		cut:     cutFiles("sys/bus/iio/devices/iio:device0", setIIO("bme280", "1-0076")),
	},
	"dht11": {
		nowhere: sensors.DHT{At: "dht11@5"},
		config:  sensors.Config{Options: sensors.DHT{}},
		set:     setIIO("dht11@4", "dht11@4"),
		cut:     cutFiles("sys/bus/iio/devices/iio:device0", setIIO("dht11@4", "dht11@4")),
	},
	"dht22": {
		nowhere: sensors.DHT{At: "dht11@5"},
		config:  sensors.Config{Options: sensors.DHT{}},
		set:     setIIO("dht11@4", "dht11@4"),
		cut:     cutFiles("sys/bus/iio/devices/iio:device0", setIIO("dht11@4", "dht11@4")),
	},
	"ds18b20": {
		config:  sensors.Config{Options: sensors.DS18B20{}},
		nowhere: sensors.DS18B20{Device: "28-0000deadbeef"},
		set:     setW1,
		cut:     cutFiles("sys/bus/w1/devices/28-00000a1b2c3d", setW1),
	},
	"mcp3008": {
		config:  sensors.Config{Options: sensors.MCP3008{SPI: sensors.SPI{Device: "spidev0.0"}, VRef: 3.3, Channels: 0x0F}},
		nowhere: sensors.MCP3008{SPI: sensors.SPI{Device: "spidev1.0"}},
		set:     func(_ *testing.T, b *sim.Board) { b.AddMCP3008("spidev0.0") },
		cut: func(t *testing.T, b *sim.Board, away bool) {
			b.RemovePort("spidev0.0")
			if !away {
				b.AddMCP3008("spidev0.0")
			}
		},
	},
	"mhz19": {
		config:  sensors.Config{Options: sensors.Serial{Device: "ttyS0"}},
		nowhere: sensors.Serial{Device: "ttyS1"},
		set:     func(_ *testing.T, b *sim.Board) { b.AddMHZ19("ttyS0") },
		cut: func(t *testing.T, b *sim.Board, away bool) {
			b.RemovePort("ttyS0")
			if !away {
				b.AddMHZ19("ttyS0")
			}
		},
	},
	"thermal": {
		nowhere: sensors.Thermal{Zone: "nowhere"},
		set:     setThermal,
		cut: func(t *testing.T, b *sim.Board, away bool) {
			if !away {
				setThermal(t, b)
				return
			}
			if err := os.RemoveAll(filepath.Join(b.Root(), "sys/class/thermal/thermal_zone0")); err != nil {
				t.Fatal(err)
			}
		},
	},
}

// ezoAt is the configuration of a circuit in water of a temperature, other than that after
// power-on, so that a loss of the setting shows.
func ezoAt(usual float64) sensors.Config {
	return sensors.Config{Options: sensors.EZO{I2C: sensors.I2C{Bus: "i2c-1"}, Temperature: usual - 6.5}}
}

func modbusPort(device string, baud int) sensors.ModbusPort {
	return sensors.ModbusPort{Serial: sensors.Serial{Device: device}, Baud: baud, Parity: board.ParityNone, UnitID: 1}
}

// meterFixture is the fixture of a meter on Modbus with known registers.
func meterFixture(baud int, set func(*sim.Board)) fixture {
	return fixture{
		config:  sensors.Config{Options: modbusPort("ttyS0", baud)},
		nowhere: modbusPort("ttyS1", baud),
		set:     func(_ *testing.T, b *sim.Board) { set(b) },
		cut:     cutPort("ttyS0", set),
	}
}

func setHwmon(t *testing.T, b *sim.Board) {
	if err := b.WriteHwmon(2, "sht3x", "1-0044", map[string]string{"temp1_input": "23456\n", "humidity1_input": "41200\n"}); err != nil {
		t.Fatal(err)
	}
}

func setIIO(name, at string) func(*testing.T, *sim.Board) {
	return func(t *testing.T, b *sim.Board) {
		if err := b.WriteIIO(0, name, at, map[string]string{"in_temp_input": "23456\n", "in_humidityrelative_input": "41200\n"}); err != nil {
			t.Fatal(err)
		}
	}
}

func setW1(t *testing.T, b *sim.Board) {
	const text = "91 01 4b 46 7f ff 0f 10 25 : crc=25 YES\n91 01 4b 46 7f ff 0f 10 25 t=25062\n"
	if err := b.WriteW1("28-00000a1b2c3d", text); err != nil {
		t.Fatal(err)
	}
}

// cutPort returns a function that removes a port with its chip, or adds it again.
func cutPort(name string, set func(*sim.Board)) func(*testing.T, *sim.Board, bool) {
	return func(_ *testing.T, b *sim.Board, away bool) {
		if b.RemovePort(name); !away {
			set(b)
		}
	}
}

// cutFiles returns a function that removes a kernel device, or writes it again.
func cutFiles(path string, set func(*testing.T, *sim.Board)) func(*testing.T, *sim.Board, bool) {
	return func(t *testing.T, b *sim.Board, away bool) {
		if !away {
			set(t, b)
			return
		}
		if err := os.RemoveAll(filepath.Join(b.Root(), path)); err != nil {
			t.Fatal(err)
		}
	}
}

func setThermal(t *testing.T, b *sim.Board) {
	if err := b.WriteThermal(0, "cpu-thermal", 48.312); err != nil {
		t.Fatal(err)
	}
}

// cutLine unplugs the chip of a line.
func cutLine(name string) func(*testing.T, *sim.Board, bool) {
	return func(_ *testing.T, b *sim.Board, away bool) {
		b.Line(name).Fail(nil)
		if away {
			b.Line(name).Fail(sensors.ErrAbsent)
		}
	}
}

// place puts a chip on a new board.
func place(t *testing.T, c sensors.Chip) (*sim.Board, *sim.Chip, sensors.Config) {
	t.Helper()
	r, ok := fixtures[c.Name]
	if !ok {
		t.Fatalf("chip %q has no fixture: the contract cannot be tested on it", c.Name)
	}
	b := sim.New()
	b.SetRoot(t.TempDir())
	cfg := r.config
	cfg.Name, cfg.Chip = "it", c.Name
	var chip *sim.Chip
	if r.chip != nil {
		if cfg.Options == nil {
			cfg.Options = sensors.I2C{Bus: "i2c-1"}
		}
		chip = r.chip(b.AddBus("i2c-1"))
	}
	if r.set != nil {
		r.set(t, b)
	}
	return b, chip, cfg
}

// overCatalog runs a test in a synctest bubble for each chip, or only for those on I2C.
func overCatalog(t *testing.T, i2cOnly bool, test func(*testing.T, sensors.Chip)) {
	for _, c := range sensors.Catalog() {
		if i2cOnly && c.Addresses == nil {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, c) })
		})
	}
}

func mustOpen(t *testing.T, c sensors.Chip, b board.Board, cfg sensors.Config) sensors.Sensor {
	t.Helper()
	s, err := c.Open(b, cfg)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	for _, q := range s.Quantities() {
		same := func(of sensors.Quantity) bool {
			return (c.Channels && of.Is(q.Name) || of.Name == q.Name) && of.Unit == q.Unit && of.Min <= q.Min && of.Max >= q.Max
		}
		if !slices.ContainsFunc(c.QuantitiesOf(cfg), same) {
			t.Errorf("%s: %+v is none of the catalog's", c.Name, q)
		}
	}
	return s
}

// sense reads a sensor like the sampler: it retries while the sensor is not ready, and
// returns an error if that takes too long.
func sense(c sensors.Chip, s sensors.Sensor) ([]sensors.Field, error) {
	for start := time.Now(); ; {
		fields, err := s.Sense()
		if !errors.Is(err, sensors.ErrNotReady) {
			return fields, err
		}
		if time.Since(start) > c.WarmUp {
			return nil, fmt.Errorf("%w: %v", sensors.ErrFault, err)
		}
		<-time.After(time.Second)
	}
}

func mustSense(t *testing.T, c sensors.Chip, s sensors.Sensor) []sensors.Field {
	t.Helper()
	fields, err := sense(c, s)
	if err != nil {
		t.Fatalf("sense: %v", err)
	}
	if err := fits(s, fields); err != nil {
		t.Fatal(err)
	}
	return fields
}

// fits checks names, order and range of fields against the sensor's quantities.
func fits(s sensors.Sensor, fields []sensors.Field) error {
	quantities := s.Quantities()
	if len(fields) != len(quantities) {
		return fmt.Errorf("%d fields, want %d", len(fields), len(quantities))
	}
	for i, q := range quantities {
		f := fields[i]
		if f.Name != q.Name {
			return fmt.Errorf("field %d is %q, want %q", i, f.Name, q.Name)
		}
		switch v := f.Value.(type) {
		case bool:
		case float64:
			if !(v >= q.Min && v <= q.Max) {
				return fmt.Errorf("%s is %g, want %g to %g", f.Name, v, q.Min, q.Max)
			}
		default:
			return fmt.Errorf("%s is a %T", f.Name, v)
		}
	}
	return nil
}
