package sensors

import (
	"fmt"
	"strconv"
	"time"

	"fieldpost/sensors/option"
)

// Texas Instruments' INA219, INA226, INA260 and INA3221: voltage, current and power of a
// supply, from the voltage over a resistor in its line.
//
// Sources: SBOS448G (INA219, December 2015), SBOS547A (INA226, August 2015), SBOS656C
// (INA260, December 2016), SBOS576B (INA3221, March 2016): registers, their steps,
// identities, conversion times.
//
// The chip measures once for each reading (triggered mode). The chip would lose the
// calibration of its own current and power registers with its power. So the driver
// computes current and power from the voltages and the configured resistor; the INA260
// has its resistor inside. The configuration register is read after the values: after a
// loss of power its mode is continuous. A voltage over the resistor at the end of the
// range may stand for any current beyond it, and is a fault.

// INA are the keys of a current monitor with an external resistor.
type INA struct {
	I2C
	// Shunt is the resistor in the line, in ohms, 0.00001 to 100: R100 printed on it
	// means 0.1.
	Shunt float64 `yaml:"shunt"`
}

// INA3221Options are the keys of an INA3221.
type INA3221Options struct {
	I2C
	// Shunt is the resistor in each line, in ohms, 0.00001 to 100.
	Shunt float64 `yaml:"shunt"`
	// Channels are the inputs to read: 1, 2-3. All three, unless given.
	Channels Channels `yaml:"channels"`
}

var inaAddresses = []uint16{0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4A, 0x4B, 0x4C, 0x4D, 0x4E, 0x4F}

var shuntRule = option.Rule{Wants: "a number of ohms such as 0.1", Check: option.Between(0.00001, 100.0, volts)}

func inaRules(addresses []uint16) map[string]option.Rule {
	rules := i2cRules(addresses)
	rules["shunt"] = shuntRule
	return rules
}

// The catalog's quantities, with the widest limits that a resistor can give.
var inaQuantities = []Quantity{
	{Name: "voltage", Unit: "V", Min: 0, Max: 36},
	{Name: "current", Unit: "A", Min: -40000, Max: 40000},
	{Name: "power", Unit: "W", Min: -2e6, Max: 2e6},
}

// inaModel is what differs between the chips.
type inaModel struct {
	name          string
	die           uint16  // in register 0xFF; 0: has no identity
	conf          uint16  // one measurement of all quantities
	atReset       uint16  // value of the configuration register after a reset
	shuntStep     float64 // V, of the INA260 A
	shuntShift    int     // unused bits below it
	busStep       float64 // V
	busShift      int
	busMax        float64 // maximum V at the chip's inputs
	full          int     // the largest value
	takes         time.Duration
	readyReg      byte
	readyBit      uint16
	channels      []int // empty: one without a number
	shuntInside   bool
	currentAtMost float64 // A, of the INA260
}

var (
	ina219Model = inaModel{
		name: "INA219", conf: 0x399B, atReset: 0x399F, // 32 V, 320 mV, 12 bits of each, triggered
		shuntStep: 10e-6, busStep: 4e-3, busShift: 3, busMax: 26, full: 32000, takes: 2 * time.Millisecond, readyReg: 0x02, readyBit: 1 << 1,
	}
	ina226Model = inaModel{
		name: "INA226", die: 0x2260, conf: 0x4523, atReset: 0x4127, // the mean of 16, 1.1 ms each
		shuntStep: 2.5e-6, busStep: 1.25e-3, busMax: 36, full: 32767, takes: 38 * time.Millisecond, readyReg: 0x06, readyBit: 1 << 3,
	}
	ina260Model = inaModel{
		name: "INA260", die: 0x2270, conf: 0x6523, atReset: 0x6127,
		shuntStep: 1.25e-3, busStep: 1.25e-3, busMax: 36, full: 32767, takes: 38 * time.Millisecond, readyReg: 0x06, readyBit: 1 << 3, shuntInside: true, currentAtMost: 15,
	}
	ina3221Model = inaModel{
		name: "INA3221", die: 0x3220, conf: 0x0323, atReset: 0x7127, // the mean of 4; the channels are added
		shuntStep: 40e-6, shuntShift: 3, busStep: 8e-3, busShift: 3, busMax: 26, full: 4095, takes: 29 * time.Millisecond, readyReg: 0x0F, readyBit: 1 << 0,
	}
)

const (
	inaConf         = 0x00
	inaManufacturer = 0xFE
	inaDie          = 0xFF
	inaTI           = 0x5449
	inaReset        = 1 << 15
	ina3221Enable   = 14 // the bit of channel 1; those of 2 and 3 are below
)

func inaChip(c Chip) Chip {
	c.Worst, c.Quantities = 200*time.Millisecond, inaQuantities
	return c
}

var ina219 = deviceWith(inaChip(Chip{
	Name: "ina219", Title: "Texas Instruments INA219: voltage, current and power", Source: "SBOS448G", Addresses: inaAddresses,
	Options: option.Set{Defaults: INA{I2C{Address: 0x40}, 0.1}, Rules: inaRules(inaAddresses)},
}), func(w *wire, o INA) (device, []Quantity) { return newINA(w, ina219Model, o.Shunt) })

var ina226 = deviceWith(inaChip(Chip{
	Name: "ina226", Title: "Texas Instruments INA226: voltage, current and power", Source: "SBOS547A", Addresses: inaAddresses,
	Options: option.Set{Defaults: INA{I2C{Address: 0x40}, 0.1}, Rules: inaRules(inaAddresses)},
}), func(w *wire, o INA) (device, []Quantity) { return newINA(w, ina226Model, o.Shunt) })

var ina260 = deviceWith(inaChip(Chip{
	Name: "ina260", Title: "Texas Instruments INA260: voltage, current and power, with its resistor inside", Source: "SBOS656C", Addresses: inaAddresses,
	Options: i2cOptions(inaAddresses),
}), func(w *wire, _ I2C) (device, []Quantity) { return newINA(w, ina260Model, 1) })

var ina3221 = deviceWith(inaChip(Chip{
	Name: "ina3221", Title: "Texas Instruments INA3221: voltage, current and power of three supplies", Source: "SBOS576B", Addresses: inaAddresses[:4],
	Channels: true,
	Options:  option.Set{Defaults: INA3221Options{I2C{Address: 0x40}, 0.1, 0b1110}, Rules: ina3221Rules()},
}), func(w *wire, o INA3221Options) (device, []Quantity) {
	m := ina3221Model
	for n := 1; n <= 3; n++ {
		if o.Channels>>n&1 == 1 {
			m.channels = append(m.channels, n)
			m.conf |= 1 << (ina3221Enable + 1 - n)
		}
	}
	return newINA(w, m, o.Shunt)
})

func ina3221Rules() map[string]option.Rule {
	rules := inaRules(inaAddresses[:4])
	rules["channels"] = option.Rule{Wants: "channels such as 1-3 or 2", Check: func(v any) string {
		if c := v.(Channels); c == 0 || c&^0b1110 != 0 {
			return "want channels 1 to 3"
		}
		return ""
	}}
	return rules
}

// inaDevice is an open current monitor.
type inaDevice struct {
	*wire
	inaModel
	shunt float64
}

// newINA makes the device and its quantities. The limits of the currents follow from the
// resistor.
func newINA(w *wire, m inaModel, shunt float64) (device, []Quantity) {
	most := m.shuntStep * float64(m.full) / shunt
	if m.shuntInside {
		most = m.currentAtMost
	}
	var quantities []Quantity
	add := func(behind string) {
		quantities = append(quantities,
			Quantity{Name: "voltage" + behind, Unit: "V", Min: 0, Max: m.busMax},
			Quantity{Name: "current" + behind, Unit: "A", Min: -most, Max: most},
			Quantity{Name: "power" + behind, Unit: "W", Min: -most * m.busMax, Max: most * m.busMax})
	}
	for _, n := range m.channels {
		add(fmt.Sprintf("_%d", n))
	}
	if m.channels == nil {
		add("")
	}
	return &inaDevice{w, m, shunt}, quantities
}

// setup resets the chip and checks its identity, or if it has none its configuration
// after the reset.
func (d *inaDevice) setup() error {
	if err := d.setWord(inaConf, inaReset); err != nil {
		return err
	}
	d.pause(time.Millisecond)
	conf, err := d.wire.word(inaConf)
	if err != nil {
		return err
	}
	if conf != d.atReset {
		return faultf("its configuration is %#04x after a reset, which is not an %s's (want %#04x)", conf, d.inaModel.name, d.atReset)
	}
	if d.die == 0 {
		return nil
	}
	for _, id := range []struct {
		reg  byte
		want uint16
	}{{inaManufacturer, inaTI}, {inaDie, d.die}} {
		got, err := d.wire.word(id.reg)
		if err != nil {
			return err
		}
		if got != id.want && !(id.reg == inaDie && got&0xFFF0 == id.want) { // the last digit is the revision
			return faultf("identity %#04x in register %#02x is not an %s's (want %#04x)", got, id.reg, d.inaModel.name, id.want)
		}
	}
	return nil
}

func (d *inaDevice) measure() ([]float64, error) {
	if err := d.setWord(inaConf, d.conf); err != nil {
		return nil, err
	}
	d.pause(d.takes)
	err := d.await(d.readyReg, 2*time.Millisecond, 8, func(v uint16) (bool, error) { return v&d.readyBit != 0, nil })
	if err != nil {
		return nil, err
	}
	channels := d.channels
	if channels == nil {
		channels = []int{1}
	}
	var v []float64
	for _, n := range channels {
		three, err := d.channel(byte(2*n - 1))
		if err != nil {
			return nil, err
		}
		v = append(v, three...)
	}
	conf, err := d.wire.word(inaConf)
	if err == nil && conf != d.conf {
		err = lostSetup("configuration", conf, d.conf)
	}
	return v, err
}

// channel reads the voltage over a resistor from register reg, and the supply's from the
// next one.
func (d *inaDevice) channel(reg byte) ([]float64, error) {
	shunt, err := d.wire.word(reg)
	if err != nil {
		return nil, err
	}
	bus, err := d.wire.word(reg + 1)
	if err != nil {
		return nil, err
	}
	return d.values(shunt, bus)
}

func (d *inaDevice) values(shunt, bus uint16) ([]float64, error) {
	steps := int(int16(shunt)) >> d.shuntShift
	if steps >= d.full || steps <= -d.full {
		return nil, faultf("the current is beyond the range: %s A of the resistor", strconv.FormatFloat(d.shuntStep*float64(d.full)/d.shunt, 'g', 3, 64))
	}
	volts := round(float64(bus>>d.busShift)*d.busStep, 1e-5)
	amperes := float64(steps) * d.shuntStep / d.shunt
	return []float64{volts, round(amperes, 1e-6), round(volts*amperes, 1e-6)}, nil
}

// sleep powers the chip down.
func (d *inaDevice) sleep() error { return d.setWord(inaConf, d.conf&^7) }
