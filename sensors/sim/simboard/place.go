package simboard

import (
	"cmp"
	"fmt"
	"math"
	"regexp"
	"strings"
	"sync"
	"time"

	"fieldpost/sensors"
	"fieldpost/sensors/board"
	"fieldpost/sensors/sim"
)

// place puts a sensor's chip on the board. It returns why it cannot; "" if it could. The caller
// holds the lock.
func (b *Board) place(p *Part, c sensors.Config) (why string) {
	chip, ok := sensors.Lookup(c.Chip)
	if !ok {
		return "fieldpost does not know this chip"
	}
	at := c.Place()
	switch {
	case chip.Addresses != nil:
		return b.placeI2C(p, at.Bus, cmp.Or(at.Address, chip.Addresses[0]))
	case at.SPI != "":
		return b.placeSPI(p, strings.TrimPrefix(at.SPI, "/dev/"), c.Options)
	case at.Port != "" && at.Unit != 0:
		return b.placeModbus(p, c)
	case at.Port != "":
		return b.placeSerial(p, strings.TrimPrefix(at.Port, "/dev/"))
	case len(c.Lines()) > 0:
		return b.placeLines(p, c)
	}
	return b.placeKernel(p, c)
}

// faulty are the chips on a bus or port.
type faulty interface{ Fault(sim.Fault) }

// cutWith makes the part's chip have that fault while it is cut off.
func (p *Part) cutWith(chip faulty, f sim.Fault) {
	p.cut = func(away bool) {
		chip.Fault(sim.Healthy)
		if away {
			chip.Fault(f)
		}
	}
}

func (b *Board) placeI2C(p *Part, name string, addr uint16) (why string) {
	bus := b.bus(name)
	chip := bus.AddNamed(p.Chip, addr)
	if chip == nil {
		return fmt.Sprintf("there is no simulated %s at address %#02x", p.Chip, addr)
	}
	p.Bus, p.Device = name, fmt.Sprintf("%s at %#02x", name, addr)
	p.cutWith(chip.(faulty), sim.NACK)
	p.move = movement(chip, p.Chip)
	return ""
}

// isBus are the names of buses that have a number: i2c-1, 1, /dev/i2c-1.
var isBus = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(/dev/)?(i2c-)?[0-9]+$`) })

// bus returns the bus of a name. An adapter's name gets a bus of a number that no user has.
func (b *Board) bus(name string) *sim.Bus {
	bus := b.buses[name]
	switch {
	case bus != nil:
	case isBus().MatchString(name):
		bus = b.AddBus(name)
	default:
		bus = b.AddBus(fmt.Sprintf("i2c-%d", 900+len(b.buses)))
		bus.SetAdapter(name)
	}
	b.buses[name] = bus
	return bus
}

// movement returns how a chip's values move; nil if they stay.
func movement(chip any, name string) func(time.Duration, float64) {
	switch d := chip.(type) {
	case *sim.BME280:
		return func(_ time.Duration, w float64) {
			d.SetTemperature(21.5 + 3*w)
			d.SetHumidity(48 - 9*w)
			d.SetPressure(101325 + 40*w)
		}
	case *sim.BMP280:
		return func(_ time.Duration, w float64) {
			d.SetTemperature(21.5 + 3*w)
			d.SetPressure(101325 + 40*w)
		}
	case interface{ SetTemperature(float64) }:
		return func(_ time.Duration, w float64) { d.SetTemperature(20 + 3*w) }
	case interface {
		SetAir(celsius, percent float64)
	}:
		return func(_ time.Duration, w float64) { d.SetAir(21.5+3*w, 48-9*w) }
	case interface{ SetLight(float64) }:
		return func(_ time.Duration, w float64) { d.SetLight(400 + 350*w) }
	case *sim.MLX90614:
		return func(_ time.Duration, w float64) { d.SetTemperatures(25+6*w, 22+w) }
	case *sim.ADS1115:
		return func(_ time.Duration, w float64) {
			for n := range 4 {
				d.SetInput(n, 0.15+0.01*float64(n)+0.05*w) // within the smallest range
			}
		}
	case *sim.INA:
		shunt := 0.02
		if name == "ina260" {
			shunt = 0.8 // A
		}
		return func(_ time.Duration, w float64) {
			for n := range 3 {
				d.SetSupply(n, shunt*(1+0.3*w), 12+0.4*w)
			}
		}
	case *sim.EZO:
		return ezoMovement(d, name)
	case *sim.Gas:
		return gasMovement(d, name)
	case *sim.Measuring:
		if name == "sps30" {
			return func(_ time.Duration, w float64) { d.SetValues(3+w, 5+2*w, 6+2*w, 7+2*w) }
		}
		return func(_ time.Duration, w float64) { d.SetValues(650+150*w, 21.5+3*w, 48-9*w) }
	}
	return nil // the Bosch chips have one specimen's raw values
}

func ezoMovement(d *sim.EZO, name string) func(time.Duration, float64) {
	middle, digits := map[string]float64{"ezoph": 7, "ezoec": 1413, "ezodo": 8.8, "ezoorp": 210, "ezortd": 21.5}[name], 3
	if name == "ezoec" {
		digits = 0
	}
	return func(_ time.Duration, w float64) { d.SetReading(fmt.Sprintf("%.*f", digits, middle*(1+0.05*w))) }
}

func gasMovement(d *sim.Gas, name string) func(time.Duration, float64) {
	values := map[string][]float64{"sgp30": {600, 60}, "sgp40": {30000}, "sgp41": {30000, 15000}}[name]
	return func(_ time.Duration, w float64) {
		var now []uint16
		for _, v := range values {
			now = append(now, uint16(math.Round(v*(1+0.2*w))))
		}
		d.SetValues(now...)
	}
}

func (b *Board) placeSPI(p *Part, device string, options any) (why string) {
	p.Device = device
	switch p.Chip {
	case "max31855", "max6675":
		add := b.AddMAX31855
		if p.Chip == "max6675" {
			add = b.AddMAX6675
		}
		d := add(device)
		p.cutWith(d, sim.Ones)
		p.move = func(_ time.Duration, w float64) { d.SetTemperature(180+40*w, 25+w) }
	case "max31865":
		o, _ := options.(sensors.MAX31865)
		d, nominal := b.AddMAX31865(device), cmp.Or(o.Nominal, 100)
		p.cutWith(d, sim.Ones)
		p.move = func(_ time.Duration, w float64) { d.SetResistance(nominal * (1.0779 + 0.0117*w)) } // 20 ± 3 °C
	case "mcp3008", "mcp3208":
		add, full := b.AddMCP3008, 1023.0
		if p.Chip == "mcp3208" {
			add, full = b.AddMCP3208, 4095
		}
		d := add(device)
		p.cutWith(d, sim.Ones)
		p.move = func(_ time.Duration, w float64) {
			for n := range 8 {
				d.SetCode(n, uint16(full*(0.4+0.03*float64(n)+0.1*w)))
			}
		}
	default:
		return "there is no simulated " + p.Chip + " on SPI"
	}
	return ""
}

func (b *Board) placeSerial(p *Part, device string) (why string) {
	p.Device = device
	switch p.Chip {
	case "pms5003", "sds011":
		add := b.AddPMS5003
		if p.Chip == "sds011" {
			add = b.AddSDS011
		}
		d := add(device)
		p.cutWith(d, sim.NACK)
		p.move = func(_ time.Duration, w float64) { d.SetDust(4+w, 8+3*w, 12+4*w) }
	case "mhz19":
		d := b.AddMHZ19(device)
		p.cutWith(d, sim.NACK)
		p.move = func(_ time.Duration, w float64) { d.SetCO2(int(650 + 150*w)) }
	default:
		return "there is no simulated " + p.Chip + " on a serial port"
	}
	return ""
}

// phases are those of Eastron's meters.
var phases = map[string]int{"sdm120": 1, "sdm230": 1, "sdm630": 3}

func (b *Board) placeModbus(p *Part, c sensors.Config) (why string) {
	var port sensors.ModbusPort
	switch o := c.Options.(type) {
	case sensors.ModbusPort:
		port = o
	case sensors.Modbus:
		port = o.ModbusPort
	default:
		return fmt.Sprintf("its settings %T are not known here", c.Options)
	}
	device := strings.TrimPrefix(port.Device, "/dev/")
	line := b.modbus[device]
	if line == nil {
		line = b.AddModbus(device, port.Baud, cmp.Or(port.Parity, board.ParityNone))
		b.modbus[device] = line
	}
	u := line.AddUnit(port.UnitID)
	p.Device = fmt.Sprintf("unit %d on %s", port.UnitID, device)
	p.cut = u.Silence
	switch o := c.Options.(type) {
	case sensors.Modbus:
		p.move = func(_ time.Duration, w float64) {
			for _, r := range o.Registers {
				setRegister(u, r, w)
			}
		}
		p.move(0, 0)
	case sensors.ModbusPort:
		n, ok := phases[p.Chip]
		switch {
		case ok:
			u.SetSDM(n)
			p.move = func(_ time.Duration, w float64) {
				for i := range uint16(n) {
					u.SetFloat(2*i, float32(230+3*w))
				}
			}
		case p.Chip == "pzem004t":
			u.SetPZEM()
			p.move = func(_ time.Duration, w float64) { u.Set(0, uint16(2200+30*w)) }
		default:
			return "there is no simulated " + p.Chip + " on Modbus"
		}
	}
	return ""
}

// setRegister sets one value of a unit that the configuration describes, around 100 before its
// scale.
func setRegister(u *sim.ModbusUnit, r sensors.ModbusRegister, wave float64) {
	v := 100 + 10*wave
	bits := uint32(int32(math.Round(v)))
	if r.Type == "f32" {
		bits = math.Float32bits(float32(v))
	}
	high, low := uint16(bits>>16), uint16(bits)
	switch {
	case r.Type == "u16" || r.Type == "i16":
		u.Set(r.Register, low)
	case r.Words == "low":
		u.Set(r.Register, low, high)
	default:
		u.Set(r.Register, high, low)
	}
}

// line makes sure that the board has a line of that name.
func (b *Board) line(name string) error {
	parsed, err := board.ParseLine(name)
	if err != nil {
		return err
	}
	if _, err := b.Find(name); err == nil {
		return nil
	}
	if kind, device, ok := expander(parsed.Chip); ok && !b.expand[parsed.Chip] {
		b.AddExpander(parsed.Chip, device, kind)
		b.expand[parsed.Chip] = true
	}
	return sim.AddLine(b.Board, name)
}

// isDevice is the kernel's name of a device on I2C, which gpio-pca953x takes as its label.
var isDevice = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9]+-00[0-9a-f]{2}$`) })

// expander returns the kind of expander that has the label, and the device's name.
func expander(label string) (kind sim.ExpanderKind, device string, ok bool) {
	switch {
	case isDevice().MatchString(label):
		return sim.TCA9555, label, true
	case strings.HasPrefix(label, "pcf857"):
		return sim.PCF8574, "1-0020", true
	case strings.HasPrefix(label, "mcp23"):
		return sim.MCP23017, "1-0020", true
	case strings.HasPrefix(label, "pca95"), strings.HasPrefix(label, "tca95"):
		return sim.TCA9555, "1-0020", true
	}
	return 0, "", false
}

func (b *Board) placeLines(p *Part, c sensors.Config) (why string) {
	var lines []*sim.Line
	for _, used := range c.Lines() {
		if err := b.line(used.Line); err != nil {
			return err.Error()
		}
		lines = append(lines, b.Line(used.Line))
	}
	p.Device = "line " + c.Lines()[0].Line
	p.cut = func(away bool) {
		for _, l := range lines {
			l.Fail(nil)
			if away {
				l.Fail(board.ErrAbsent)
			}
		}
	}
	switch o := c.Options.(type) {
	case sensors.GPIO:
		p.Chatters = lines[0]
		p.move = door(lines[0], o.ActiveLow)
	case sensors.Ultrasonic:
		d := sim.AddHCSR04(b.Board, o.Trigger, o.Echo)
		p.cut = d.Unplug
		p.move = func(_ time.Duration, w float64) { d.SetDistance(1 + 0.2*w) }
	case sensors.CounterOptions, sensors.Frequency:
		p.move = pulses(lines[0])
	default:
		return fmt.Sprintf("its settings %T are not known here", c.Options)
	}
	return ""
}

// door returns the movement of a line that is active for three of eight seconds.
func door(l *sim.Line, activeLow bool) func(time.Duration, float64) {
	var mu sync.Mutex
	var last, known bool
	return func(at time.Duration, _ float64) {
		active := at%(8*time.Second) >= 5*time.Second
		mu.Lock()
		defer mu.Unlock()
		if known && active == last {
			return // whoever else drives the line may do so
		}
		last, known = active, true
		l.Drive(active != activeLow)
	}
}

// pulses returns the movement of a line that changes at each step.
func pulses(l *sim.Line) func(time.Duration, float64) {
	return func(at time.Duration, _ float64) { l.Drive(int(at/step)%2 == 0) }
}
