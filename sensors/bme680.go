package sensors

import (
	"bytes"
	"encoding/binary"
	"math"
	"time"

	"fieldpost/sensors/option"
)

// Bosch's BME680 and BME688: temperature, humidity, air pressure, and the resistance
// of a heated layer of metal oxide, which falls with what burns in the air.
//
// Sources: BST-BME680-DS001-08, revision 1.8, July 2022, and BST-BME688-DS000-03,
// revision 1.3, April 2024: memory map table 20, calibration tables 11 to 16, heater
// section 3.3.5, gas section 3.4; the floating-point compensation follows Bosch's BME68x
// Sensor API, which also made the test's values.
//
// The chip sleeps and measures once for each reading (forced mode), and heats the layer
// for 150 ms to 320 degrees. That warms the chip by a degree or two; with `gas: off` it
// does not. The settings are read after the values, and the oversampling differs from
// that after power-on. The calibration is read twice and must be the same. The gas
// resistance is left out if the heater did not reach its temperature, for example in the
// cold.

// BME680 are the keys of a BME680 or BME688.
type BME680 struct {
	I2C
	// Gas is whether to heat and to measure the gas resistance.
	Gas bool `yaml:"gas"`
}

var bme680Quantities = []Quantity{
	{Name: "temperature", Unit: "Cel", Min: -40, Max: 85}, percentRH,
	{Name: "pressure", Unit: "Pa", Min: 30000, Max: 110000},
	{Name: "gas_resistance", Unit: "Ohm", Min: 1, Max: 2e8},
}

var bme680 = deviceWith(Chip{
	Name:       "bme680",
	Title:      "Bosch BME680, BME688: temperature, humidity, air pressure and gas resistance",
	Source:     "BST-BME680-DS001-08, revision 1.8",
	Addresses:  bmx280Addresses,
	Options:    option.Set{Defaults: BME680{I2C{Address: bmx280Addresses[0]}, true}, Rules: i2cRules(bmx280Addresses)},
	Quantities: bme680Quantities,
	Every:      30 * time.Second,
	Worst:      600 * time.Millisecond,
}, func(w *wire, o BME680) (device, []Quantity) {
	quantities := bme680Quantities
	if !o.Gas {
		quantities = quantities[:3]
	}
	return &bme680Device{wire: w, gas: o.Gas, ambient: 25}, quantities
})

const (
	bme680ID      = 0xD0
	bme680Is      = 0x61
	bme680Variant = 0xF0 // 1: BME688
	bme680Reset   = 0xE0
	bme680Field   = 0x1D // to 0x2D
	bme680Heat    = 0x5A // res_heat_0
	bme680Wait    = 0x64 // gas_wait_0
	bme680Ctrl    = 0x71 // ctrl_gas_1, ctrl_hum, status, ctrl_meas, config

	bme680New    = 1 << 7 // of the field's first byte
	bme680Valid  = 1 << 5 // of the byte that has the range
	bme680Stable = 1 << 4

	bme680T8P16    = 4<<5 | 5<<2
	bme680H2       = 2
	bme680Celsius  = 320
	bme680HeatTime = 150 * time.Millisecond
	bme680Takes    = 60 * time.Millisecond // 56.3 ms without the heater
)

// bme680Blocks are the registers with the calibration.
var bme680Blocks = []struct {
	reg byte
	n   int
}{{0x8A, 23}, {0xE1, 14}, {0x00, 5}}

type bme680Device struct {
	*wire
	gas     bool
	high    bool // true for a BME688
	trim    bme680Trim
	ambient float64 // of the last measurement
	ctrl    [4]byte // ctrl_gas_1, ctrl_hum, ctrl_meas, config
}

func (d *bme680Device) setup() error {
	id, err := d.read(bme680ID, 1)
	if err != nil {
		return err
	}
	if id[0] != bme680Is {
		return faultf("chip id %#02x is not a BME680's or BME688's (want %#02x)", id[0], bme680Is)
	}
	if err := d.write(bme680Reset, 0xB6); err != nil {
		return err
	}
	d.pause(10 * time.Millisecond)
	variant, err := d.read(bme680Variant, 1)
	if err != nil {
		return err
	}
	d.high = variant[0] == 1
	d.ctrl = [4]byte{0, bme680H2, bme680T8P16, 0} // no filter, because it would mix measurements
	if d.gas {
		if d.ctrl[0] = 1 << 4; d.high { // run_gas
			d.ctrl[0] = 1 << 5
		}
	}
	if err := d.configure(); err != nil {
		return err
	}
	first, err := d.calibration()
	if err != nil {
		return err
	}
	second, err := d.calibration()
	if err != nil {
		return err
	}
	if !bytes.Equal(first, second) {
		return faultf("its calibration was read as % x and then as % x", first, second)
	}
	d.trim, err = newBME680Trim(first)
	return err
}

func (d *bme680Device) calibration() (all []byte, err error) {
	for _, block := range bme680Blocks {
		b, err := d.read(block.reg, block.n)
		if err != nil {
			return nil, err
		}
		all = append(all, b...)
	}
	return all, nil
}

func (d *bme680Device) configure() error {
	for _, setting := range [][2]byte{{bme680Ctrl, d.ctrl[0]}, {bme680Ctrl + 1, d.ctrl[1]}, {bme680Ctrl + 4, d.ctrl[3]}, {bme680Ctrl + 3, d.ctrl[2]}} {
		if err := d.write(setting[0], setting[1]); err != nil {
			return err
		}
	}
	return nil
}

func (d *bme680Device) measure() ([]float64, error) {
	if d.gas {
		if err := d.write(bme680Heat, d.trim.heat(bme680Celsius, d.ambient)); err != nil {
			return nil, err
		}
		if err := d.write(bme680Wait, bme680GasWait(bme680HeatTime)); err != nil {
			return nil, err
		}
	}
	if err := d.write(bme680Ctrl+3, d.ctrl[2]|1); err != nil { // forced mode
		return nil, err
	}
	d.pause(bme680Takes)
	if d.gas {
		d.pause(bme680HeatTime)
	}
	for range 20 {
		f, err := d.read(bme680Field, 17)
		if err != nil {
			return nil, err
		}
		if f[0]&bme680New == 0 || uniform(f) {
			d.pause(3 * time.Millisecond)
			continue
		}
		if err := d.held(); err != nil {
			return nil, err
		}
		return d.values(f)
	}
	return nil, faultf("a measurement does not end, or nothing drives the line")
}

// held returns an error if the settings have changed.
func (d *bme680Device) held() error {
	b, err := d.read(bme680Ctrl, 5)
	if err != nil {
		return err
	}
	for _, c := range []struct {
		name      string
		got, want byte
	}{{"ctrl_gas_1", b[0] & 0x30, d.ctrl[0]}, {"ctrl_hum", b[1] & 7, d.ctrl[1]}, {"ctrl_meas", b[3] &^ 3, d.ctrl[2]}, {"config", b[4] & 0x1C, d.ctrl[3]}} {
		if c.got != c.want {
			return lostSetup(c.name, uint16(c.got), uint16(c.want))
		}
	}
	return nil
}

// values converts a field, 0x1D to 0x2D.
func (d *bme680Device) values(f []byte) ([]float64, error) {
	p := uint32(f[2])<<12 | uint32(f[3])<<4 | uint32(f[4])>>4
	t := uint32(f[5])<<12 | uint32(f[6])<<4 | uint32(f[7])>>4
	h := uint32(f[8])<<8 | uint32(f[9])
	if uniform(f[2:5]) || uniform(f[5:8]) || uniform(f[8:10]) || f[4]&0x0F|f[7]&0x0F != 0 {
		return nil, faultf("no measurement: % x", f)
	}
	fine := d.trim.fine(float64(t))
	celsius := fine / finePerDegree
	v := []float64{round(celsius, 0.01), round(d.trim.humidity(float64(h), celsius), 0.01), round(d.trim.pressure(float64(p), fine), 1)}
	if !d.gas {
		return v, nil
	}
	d.ambient = math.Max(-40, math.Min(85, celsius))
	high, low := f[13], f[14]
	if d.high {
		high, low = f[15], f[16]
	}
	if low&(bme680Valid|bme680Stable) != bme680Valid|bme680Stable {
		return append(v, missing), nil
	}
	adc, gasRange := float64(uint32(high)<<2|uint32(low)>>6), low&0x0F
	ohms := d.trim.gasLow(adc, gasRange)
	if d.high {
		ohms = bme688Gas(adc, gasRange)
	}
	return append(v, round(ohms, 1)), nil
}

// sleep does nothing: the chip sleeps by itself.
func (d *bme680Device) sleep() error { return nil }

// bme680Trim is a chip's calibration, named as in tables 11 to 16.
type bme680Trim struct {
	t1, t2, t3                              float64
	p1, p2, p3, p4, p5, p6, p7, p8, p9, p10 float64
	h1, h2, h3, h4, h5, h6, h7              float64
	gas                                     bme680GasTrim
}

// bme680GasTrim is the calibration of the heater and of the gas resistance.
type bme680GasTrim struct{ g1, g2, g3, heatRange, heatValue, switchingError float64 }

// newBME680Trim decodes the three blocks of the calibration.
func newBME680Trim(b []byte) (bme680Trim, error) {
	u := func(i int) float64 { return float64(binary.LittleEndian.Uint16(b[i:])) }
	s := func(i int) float64 { return float64(int16(binary.LittleEndian.Uint16(b[i:]))) }
	c := func(i int) float64 { return float64(int8(b[i])) }
	t := bme680Trim{
		t1: u(31), t2: s(0), t3: c(2),
		p1: u(4), p2: s(6), p3: c(8), p4: s(10), p5: s(12), p6: c(15), p7: c(14), p8: s(18), p9: s(20), p10: float64(b[22]),
		h1: float64(uint16(b[25])<<4 | uint16(b[24]&0x0F)), h2: float64(uint16(b[23])<<4 | uint16(b[24]>>4)),
		h3: c(26), h4: c(27), h5: c(28), h6: float64(b[29]), h7: c(30),
		gas: bme680GasTrim{
			g1: c(35), g2: s(33), g3: c(36),
			heatValue: c(37), heatRange: float64(b[39] >> 4 & 3), switchingError: float64(int8(b[41]) >> 4),
		},
	}
	if uniform(b[:23]) || uniform(b[23:37]) || t.t1 == 0 || t.t2 == 0 || t.p1 == 0 || t.h2 == 0 {
		return bme680Trim{}, faultf("its calibration is % x, which is impossible", b)
	}
	return t, nil
}

// fine returns t_fine of a raw temperature.
func (c *bme680Trim) fine(raw float64) float64 {
	x := (raw/16384 - c.t1/1024) * c.t2
	y := raw/131072 - c.t1/8192
	return x + y*y*c.t3*16
}

// pressure compensates a raw pressure, to pascal.
func (c *bme680Trim) pressure(raw, fine float64) float64 {
	x := fine/2 - 64000
	y := x*x*c.p6/131072 + x*c.p5*2
	y = y/4 + c.p4*65536
	x = (c.p3*x*x/16384 + c.p2*x) / 524288
	x = (1 + x/32768) * c.p1
	p := (1048576 - raw - y/4096) * 6250 / x
	return p + (c.p9*p*p/2147483648+p*c.p8/32768+math.Pow(p/256, 3)*c.p10/131072+c.p7*128)/16
}

// humidity compensates a raw humidity, to percent from 0 to 100.
func (c *bme680Trim) humidity(raw, t float64) float64 {
	x := raw - (c.h1*16 + c.h3/2*t)
	x *= c.h2 / 262144 * (1 + c.h4/16384*t + c.h5/1048576*t*t)
	x += (c.h6/16384 + c.h7/2097152*t) * x * x
	return math.Max(0, math.Min(100, x))
}

// heat returns the register value that heats to celsius in air of ambient degrees.
func (c *bme680Trim) heat(celsius, ambient float64) byte {
	x := (c.gas.g1/16 + 49) * (1 + (c.gas.g2/32768*0.0005+0.00235)*celsius)
	x += c.gas.g3 / 1024 * ambient
	return byte(3.4 * (x*4/(4+c.gas.heatRange)/(1+c.gas.heatValue*0.002) - 25))
}

// bme680GasWait returns the register value for a time: six bits, and a factor of 1, 4, 16
// or 64 ms.
func bme680GasWait(d time.Duration) byte {
	ms, factor := d.Milliseconds(), byte(0)
	for ; ms > 0x3F && factor < 3; factor++ {
		ms /= 4
	}
	return byte(min(ms, 0x3F)) | factor<<6
}

// The gas ranges' corrections, in percent, table 16.
var (
	bme680Range1 = [16]float64{5: -1, 7: -0.8, 10: -0.2, 11: -0.5, 13: -1}
	bme680Range2 = [16]float64{4: 0.1, 5: 0.7, 7: -0.8, 8: -0.1}
)

// gasLow returns a BME680's gas resistance, in ohms.
func (c *bme680Trim) gasLow(adc float64, gasRange byte) float64 {
	x := (1340 + 5*c.gas.switchingError) * (1 + bme680Range1[gasRange]/100)
	y := 1 + bme680Range2[gasRange]/100
	return 1 / (y * 0.000000125 * float64(uint32(1)<<gasRange) * ((adc-512)/x + 1))
}

// bme688Gas returns a BME688's gas resistance, in ohms.
func bme688Gas(adc float64, gasRange byte) float64 {
	return 1e6 * float64(uint32(262144)>>gasRange) / ((adc-512)*3 + 4096)
}
