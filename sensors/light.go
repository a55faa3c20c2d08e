package sensors

import (
	"encoding/binary"
	"math"
	"time"
)

// Light sensors with ranges: Vishay's VEML7700, ams' TSL2591 and TSL2561.
//
// Sources: VEML7700 data sheet, document 84286, revision 1.8: command code table 1,
// settings table 2, 0.0042 lx per count at gain 2 and 800 ms (0.0036 in revisions before
// 1.7), and application note 84323: settings for ranges, correction above 1000 lx;
// TSL2591 data sheet, version 2, July 2018: registers figures 14 to 24; lux from ams'
// application note DN40 with 408 for clear glass; TSL2560/TSL2561, TAOS059N, March 2009:
// registers, lux of the T, FN and CL packages, full scale of each time.
//
// Each measures once or more for a reading, beginning with the range that is most often
// right, and powers down. The settings are read after the counts: after power-on the chip
// is off.

// litRange is a range of a light sensor.
type litRange struct {
	setting uint16
	takes   time.Duration
	full    uint16  // the count at which the range is exceeded
	factor  float64 // the factor, or divisor, for counts
}

var illuminance = func(most float64) []Quantity {
	return []Quantity{{Name: "illuminance", Unit: "lx", Min: 0, Max: most}}
}

var veml7700 = deviceChip(Chip{
	Name: "veml7700", Title: "Vishay VEML7700, VEML6030: light", Source: "Vishay document 84286, revision 1.8",
	Addresses: []uint16{0x10, 0x48}, Quantities: illuminance(120000), Worst: time.Second,
}, func(w *wire) device { return &veml7700Device{w} })

const (
	vemlConf = 0
	vemlALS  = 4
	vemlOff  = 1 // ALS_SD

	vemlDim = 186 // counts of the wide range (100 lx) below which the other range is used
)

var (
	vemlWide  = litRange{2 << 11, 240 * time.Millisecond, 65535, 0.0042 * 16 * 8} // gain 1/8, 100 ms
	vemlSmall = litRange{1 << 11, 240 * time.Millisecond, 65535, 0.0042 * 8}      // gain 2, 100 ms
)

type veml7700Device struct{ *wire }

// set writes the configuration, the low byte first.
func (d *veml7700Device) set(conf uint16) error { return d.write(vemlConf, byte(conf), byte(conf>>8)) }

func (d *veml7700Device) get(reg byte) (uint16, error) {
	b, err := d.read(reg, 2)
	return binary.LittleEndian.Uint16(b), err
}

// setup configures the chip, which is recognised by a register that keeps what is written
// to it.
func (d *veml7700Device) setup() error {
	if err := d.set(vemlWide.setting | vemlOff); err != nil {
		return err
	}
	conf, err := d.get(vemlConf)
	if err == nil && conf != vemlWide.setting|vemlOff {
		err = faultf("its configuration reads %#04x (was set to %#04x): the chip is no VEML7700", conf, vemlWide.setting|vemlOff)
	}
	return err
}

func (d *veml7700Device) measure() ([]float64, error) {
	count, err := d.count(vemlWide)
	if err != nil {
		return nil, err
	}
	lux := vemlLux(float64(count) * vemlWide.factor)
	if count < vemlDim {
		small, err := d.count(vemlSmall)
		if err != nil {
			return nil, err
		}
		if small < vemlSmall.full { // otherwise it has become bright meanwhile
			lux = float64(small) * vemlSmall.factor
		}
	}
	if count >= vemlWide.full {
		return nil, faultf("count %d: the light is beyond its range", count)
	}
	return []float64{round(lux, 0.01)}, d.sleep()
}

// count measures in a range, which it sets while the chip is off. It waits for the second
// measurement, because the first may partly use the previous range.
func (d *veml7700Device) count(r litRange) (uint16, error) {
	for _, conf := range []uint16{r.setting | vemlOff, r.setting} {
		if err := d.set(conf); err != nil {
			return 0, err
		}
	}
	d.pause(r.takes)
	count, err := d.get(vemlALS)
	if err != nil {
		return 0, err
	}
	conf, err := d.get(vemlConf)
	if err == nil && conf != r.setting {
		err = lostSetup("configuration", conf, r.setting)
	}
	return count, err
}

// vemlLux corrects values above 1000 lx (application note 84323).
func vemlLux(lux float64) float64 {
	if lux <= 1000 {
		return lux
	}
	return lux * (1.0023 + lux*(8.1488e-5+lux*(-9.3924e-9+lux*6.0135e-13)))
}

func (d *veml7700Device) sleep() error { return d.set(vemlWide.setting | vemlOff) }

// tsl is what TSL2591 and TSL2561 have in common: a command with each access, a
// register that switches them on, and one with range and time.
type tsl struct {
	*wire
	command byte
	setting byte // the register
	status  byte // the register whose bit 0 says that a measurement has ended since power-on; 0: none
}

// count measures in a range. It writes the settings while the chip is off and reads them
// after the counts, which begin in register data.
func (d tsl) count(r litRange, data byte) (ch0, ch1 uint16, err error) {
	for _, set := range [][2]byte{{0, 0}, {d.setting, byte(r.setting)}, {0, 3}} {
		if err := d.write(d.command|set[0], set[1]); err != nil {
			return 0, 0, err
		}
	}
	d.pause(r.takes)
	if d.status != 0 {
		b, err := d.read(d.command|d.status, 1)
		if err != nil {
			return 0, 0, err
		}
		if b[0]&1 == 0 {
			return 0, 0, faultf("a measurement does not end, or the chip lost its power")
		}
	}
	var words [2]uint16
	for i := range words {
		b, err := d.read(d.command|data+2*byte(i), 2)
		if err != nil {
			return 0, 0, err
		}
		words[i] = binary.LittleEndian.Uint16(b)
	}
	for _, set := range []struct {
		name            string
		reg, mask, want byte
	}{{"power", 0, 3, 3}, {"range", d.setting, 0x37, byte(r.setting)}} {
		b, err := d.read(d.command|set.reg, 1)
		if err != nil {
			return 0, 0, err
		}
		if b[0]&set.mask != set.want {
			return 0, 0, lostSetup(set.name+" register", uint16(b[0]), uint16(set.want))
		}
	}
	return words[0], words[1], nil
}

// identify reads the identity.
func (d tsl) identify(reg, mask, want byte) error {
	id, err := d.read(d.command|reg, 1)
	if err == nil && id[0]&mask != want {
		err = faultf("id %#02x is not a %s's (want %#02x)", id[0], d.chip, want)
	}
	return err
}

// sleep powers the chip down.
func (d tsl) sleep() error { return d.write(d.command, 0) }

var tsl2591 = deviceChip(Chip{
	Name: "tsl2591", Title: "ams TSL2591: light", Source: "TSL2591 data sheet, version 2",
	Addresses: []uint16{0x29}, Quantities: illuminance(140000), Worst: time.Second,
}, func(w *wire) device { return &tsl2591Device{tsl{w, 0xA0, 1, 0x13}} })

// The factor is counts per lux, times 408. Register CONTROL is 0 after power-on, but in
// none of these.
var (
	tsl2591Middle = litRange{0x10, 115 * time.Millisecond, 36863, 100 * 25}
	tsl2591Bright = litRange{0x01, 225 * time.Millisecond, 65535, 200}
	tsl2591Dim    = litRange{0x22, 335 * time.Millisecond, 65535, 300 * 428}
)

type tsl2591Device struct{ tsl }

func (d *tsl2591Device) setup() error {
	if err := d.identify(0x12, 0xFF, 0x50); err != nil {
		return err
	}
	return d.sleep()
}

func (d *tsl2591Device) measure() ([]float64, error) {
	r := tsl2591Middle
	ch0, ch1, err := d.count(r, 0x14)
	switch {
	case err != nil:
		return nil, err
	case ch0 >= r.full || ch1 >= r.full:
		r = tsl2591Bright
	case ch0 < 400:
		r = tsl2591Dim
	}
	if r != tsl2591Middle {
		if ch0, ch1, err = d.count(r, 0x14); err != nil {
			return nil, err
		}
	}
	if ch0 >= r.full || ch1 >= r.full {
		return nil, faultf("counts %d and %d: the light is beyond its range, or changes fast", ch0, ch1)
	}
	return []float64{round(tsl2591Lux(float64(ch0), float64(ch1), r.factor/408), 0.01)}, d.sleep()
}

// tsl2591Lux returns the light from two counts: all light, and infrared.
func tsl2591Lux(ch0, ch1, countsPerLux float64) float64 {
	if ch0 <= ch1 {
		return 0 // all of it is infrared
	}
	return (ch0 - ch1) * (1 - ch1/ch0) / countsPerLux
}

var tsl2561 = deviceChip(Chip{
	Name: "tsl2561", Title: "ams TSL2561 (T, FN, CL): light", Source: "TAOS059N, March 2009",
	Addresses: []uint16{0x39, 0x29, 0x49}, Quantities: illuminance(40000), Worst: 2 * time.Second,
}, func(w *wire) device { return &tsl2561Device{tsl{w, 0x80, 1, 0}} })

// The factor converts counts to 402 ms and gain 16. Register TIMING is 0x02 after
// power-on, but in none of these.
var tsl2561Ranges = []litRange{
	{0x12, 450 * time.Millisecond, 65535, 1},
	{0x01, 115 * time.Millisecond, 37177, 16 * 322.0 / 81},
	{0x00, 20 * time.Millisecond, 5047, 16 * 322.0 / 11},
}

// tsl2561Word makes a read return both bytes of the same count.
const tsl2561Word = 1 << 5

type tsl2561Device struct{ tsl }

func (d *tsl2561Device) setup() error {
	if err := d.identify(0x0A, 0xF0, 0x50); err != nil {
		return err
	}
	return d.sleep()
}

func (d *tsl2561Device) measure() ([]float64, error) {
	for _, r := range tsl2561Ranges {
		ch0, ch1, err := d.count(r, tsl2561Word|0x0C)
		if err != nil {
			return nil, err
		}
		if ch0 < r.full && ch1 < r.full {
			return []float64{round(tsl2561Lux(float64(ch0)*r.factor, float64(ch1)*r.factor), 0.01)}, d.sleep()
		}
	}
	return nil, faultf("the light is beyond its range")
}

// tsl2561Lux returns the light from two counts, by their ratio.
func tsl2561Lux(ch0, ch1 float64) float64 {
	if ch0 == 0 {
		return 0
	}
	switch r := ch1 / ch0; {
	case r <= 0.50:
		return 0.0304*ch0 - 0.062*ch0*math.Pow(r, 1.4)
	case r <= 0.61:
		return 0.0224*ch0 - 0.031*ch1
	case r <= 0.80:
		return 0.0128*ch0 - 0.0153*ch1
	case r <= 1.30:
		return math.Max(0, 0.00146*ch0-0.00112*ch1)
	}
	return 0
}
