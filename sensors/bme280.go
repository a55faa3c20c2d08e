package sensors

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"time"

	"fieldpost/sensors/board"
)

// Bosch's BME280 (temperature, humidity, pressure) and BMP280 (no humidity).
//
// Sources: BST-BME280-DS002-15, revision 1.6, September 2018;
// BST-BMP280-DS001-23, revision 1.23.
//
// The chip sleeps and measures once for each reading (forced mode, no filter: section
// 3.5.1, weather monitoring). One burst then reads the control registers together with
// the data, so that values come only from a chip that still has its configuration:
//
//   - A quantity was measured if its oversampling is not 0. The data do not show
//     it: without a measurement they are 0x80000 and 0x8000, which are also possible
//     measurements. Without a filter the chip gives 16 bits at x1 (sections 3.4.1 to
//     3.4.3), so that on many chips one step of 0.005 degrees at room temperature is
//     0x80000.
//   - A chip that lost its power, or was exchanged, has a config of 0 (section
//     5.4.6). Ours is not 0: it has a value in t_sb, the pause between measurements of
//     normal mode, which forced mode does not use.
//
// The calibration is read twice and must be the same both times, because one wrong byte
// would make every value wrong.

var bmx280Addresses = []uint16{0x76, 0x77}

// The operating range, table 1 of both datasheets.
var bme280Quantities = []Quantity{
	{Name: "temperature", Unit: "Cel", Min: -40, Max: 85},
	{Name: "humidity", Unit: "%", Min: 0, Max: 100},
	{Name: "pressure", Unit: "Pa", Min: 30000, Max: 110000},
}

var bmp280Quantities = []Quantity{bme280Quantities[0], bme280Quantities[2]}

var bme280 = Chip{
	Name:       "bme280",
	Title:      "Bosch BME280: temperature, humidity and air pressure",
	Source:     "BST-BME280-DS002-15, revision 1.6",
	Options:    i2cOptions(bmx280Addresses),
	Addresses:  bmx280Addresses,
	Quantities: bme280Quantities,
	Every:      10 * time.Second,
	Worst:      100 * time.Millisecond,
	Look:       lookOnBus(bmx280Addresses),
	Open: func(b board.Board, c Config) (Sensor, error) {
		return openBMx280(b, c, idBME280)
	},
}

var bmp280 = Chip{
	Name:       "bmp280",
	Title:      "Bosch BMP280: temperature and air pressure",
	Source:     "BST-BMP280-DS001-23, revision 1.23",
	Options:    i2cOptions(bmx280Addresses),
	Addresses:  bmx280Addresses,
	Quantities: bmp280Quantities,
	Every:      10 * time.Second,
	Worst:      100 * time.Millisecond,
	Look:       lookOnBus(bmx280Addresses),
	Open: func(b board.Board, c Config) (Sensor, error) {
		return openBMx280(b, c, idBMP280)
	},
}

// Registers by the datasheet's names (table 18), and their bits.
const (
	regCalib00  = 0x88 // to 0xA1
	regID       = 0xD0
	regCalib26  = 0xE1 // to 0xE7
	regReset    = 0xE0
	regCtrlHum  = 0xF2 // BME280 only
	regStatus   = 0xF3
	regCtrlMeas = 0xF4
	regConfig   = 0xF5
	regData     = 0xF7

	calibSize    = 26
	calibHumSize = 7

	statusMeasuring = 1 << 3 // a conversion is running
	statusUpdate    = 1 << 0 // im_update: the calibration is being copied, at power-on, after a reset and before a conversion

	osrsH1      = 1           // ctrl_hum: humidity x1
	osrsT1P4    = 1<<5 | 3<<2 // ctrl_meas: temperature x1, pressure x4
	resetWord   = 0xB6
	modeOnce    = 1 // forced mode
	modeMask    = 3
	tSB1000     = 5 << 5 // config: t_sb 1000 ms, no filter
	configSpare = 1 << 1 // config: reserved
)

// Waiting. A measurement takes 16.2 ms at most (section 9.1: 1.25 + 2.3 + 2.3*4 +
// 0.575 + 2.3 + 0.575), the start-up 2 ms (table 1).
const (
	bmxMeasure   = 17 * time.Millisecond
	bmxPoll      = time.Millisecond
	bmxPolls     = 10
	bmxCopy      = 2 * time.Millisecond
	bmxCopyPolls = 12
)

// Chip ids, also those of other chips that may have these addresses.
const (
	idBMP280 = 0x58
	idBME280 = 0x60
)

var bmx280IDs = map[byte]string{
	0x55: "a BMP085's or BMP180's", 0x56: "a BMP280 sample's", 0x57: "a BMP280 sample's",
	idBMP280: "a BMP280's: the chip is bmp280", idBME280: "a BME280's: the chip is bme280",
	0x61: "a BME680's", 0x50: "a BMP388's",
}

// bmx280 is an open BME280 or BMP280.
type bmx280 struct {
	w        *wire
	humidity bool // true for a BME280
	trim     bmxTrim
}

func openBMx280(b board.Board, c Config, id byte) (Sensor, error) {
	w, err := dial(b, c, bmx280Addresses)
	if err != nil {
		return nil, err
	}
	s := &bmx280{w: w, humidity: id == idBME280}
	if err := s.setup(id); err != nil {
		return nil, errors.Join(w.wrap("open", err), w.close())
	}
	return s, nil
}

// setup resets the chip, configures it and then reads its calibration. So unchanged
// settings prove that the calibration belongs to this chip.
//
// The reset is needed after a supply voltage that was too low, but not low enough to
// restart the chip: its internal registers may be damaged, and it may give pressures of
// 700 hPa (esphome/issues, issue 3383). It also ends what another program has started.
func (s *bmx280) setup(id byte) error {
	if err := s.identify(id); err != nil {
		return err
	}
	if err := s.w.write(regReset, resetWord); err != nil {
		return err
	}
	if err := s.awaitCopy(); err != nil {
		return err
	}
	if s.humidity {
		if err := s.w.write(regCtrlHum, osrsH1); err != nil {
			return err
		}
	}
	if err := s.w.write(regConfig, tSB1000); err != nil {
		return err
	}
	var err error
	s.trim, err = s.calibration()
	return err
}

func (s *bmx280) identify(id byte) error {
	got, err := s.w.read(regID, 1)
	if err != nil {
		return err
	}
	if got[0] == id {
		return nil
	}
	whose := bmx280IDs[got[0]]
	if whose == "" {
		whose = "unknown"
	}
	return faultf("chip id %#02x is %s (want %#02x)", got[0], whose, id)
}

// awaitCopy waits until the chip has copied its calibration from its memory, as it does
// after power-on and after a reset. That takes 2 ms, by some reports up to 20.
func (s *bmx280) awaitCopy() error {
	for range bmxCopyPolls {
		s.w.pause(bmxCopy)
		status, err := s.w.read(regStatus, 1)
		if err != nil {
			return err
		}
		if status[0]&(statusMeasuring|statusUpdate) == 0 {
			return nil
		}
	}
	return faultf("status says that it copies its calibration or measures, and this does not end")
}

// calibration reads the calibration twice.
func (s *bmx280) calibration() (bmxTrim, error) {
	first, err := s.readCalibration()
	if err != nil {
		return bmxTrim{}, err
	}
	second, err := s.readCalibration()
	if err != nil {
		return bmxTrim{}, err
	}
	if !bytes.Equal(first, second) {
		return bmxTrim{}, faultf("its calibration was read as % x and then as % x", first, second)
	}
	return newBMxTrim(first)
}

// readCalibration reads 0x88 to 0xA1 and, for a BME280, 0xE1 to 0xE7.
func (s *bmx280) readCalibration() ([]byte, error) {
	calib, err := s.w.read(regCalib00, calibSize)
	if err != nil || !s.humidity {
		return calib, err
	}
	hum, err := s.w.read(regCalib26, calibHumSize)
	return append(calib, hum...), err
}

// Quantities leaves out the humidity of a BMP280.
func (s *bmx280) Quantities() []Quantity {
	if s.humidity {
		return bme280Quantities
	}
	return bmp280Quantities
}

// Sense measures once.
func (s *bmx280) Sense() ([]Field, error) {
	s.w.begin()
	fields, err := s.sense()
	return fields, s.w.wrap("read", err)
}

func (s *bmx280) sense() ([]Field, error) {
	if err := s.w.write(regCtrlMeas, osrsT1P4|modeOnce); err != nil {
		return nil, err
	}
	raw, err := s.await()
	if err != nil {
		return nil, err
	}
	fine := s.trim.fine(raw.temperature)
	t := round(fine/finePerDegree, 0.01)
	p := round(s.trim.pressure(raw.pressure, fine), 1)
	if !s.humidity {
		return values(bmp280Quantities, t, p)
	}
	return values(bme280Quantities, t, round(s.trim.humidity(raw.humidity, fine), 0.01), p)
}

// await waits for the end of the measurement and returns its values.
func (s *bmx280) await() (bmxRaw, error) {
	first := byte(regStatus)
	if s.humidity {
		first = regCtrlHum
	}
	s.w.pause(bmxMeasure)
	for range bmxPolls {
		burst, err := s.w.read(first, regData-int(first)+s.dataSize())
		if err != nil {
			return bmxRaw{}, err
		}
		raw, done, err := s.decodeBurst(burst)
		if done || err != nil {
			return raw, err
		}
		s.w.pause(bmxPoll)
	}
	return bmxRaw{}, faultf("a measurement does not end")
}

// dataSize is the number of data registers.
func (s *bmx280) dataSize() int {
	if s.humidity {
		return 8
	}
	return 6
}

// bmxRaw is a measurement before compensation: 20, 20 and 16 bits.
type bmxRaw struct{ temperature, pressure, humidity int }

// decodeBurst checks and decodes a burst of the registers from ctrl_hum, or on a BMP280 from
// status, to the last of the data. done is false while it measures.
func (s *bmx280) decodeBurst(burst []byte) (raw bmxRaw, done bool, err error) {
	if uniform(burst) {
		return raw, false, faultf("no measurement: % x", burst)
	}
	if s.humidity {
		if got := burst[0] & 7; got != osrsH1 {
			return raw, false, lostSetup("ctrl_hum", uint16(got), osrsH1)
		}
		burst = burst[1:]
	}
	status, meas, config, data := burst[0], burst[1], burst[2], burst[4:]
	switch {
	case meas&^modeMask != osrsT1P4:
		return raw, false, lostSetup("ctrl_meas", uint16(meas&^modeMask), osrsT1P4)
	case config&^configSpare != tSB1000:
		return raw, false, lostSetup("config", uint16(config), tSB1000)
	case status&(statusMeasuring|statusUpdate) != 0:
		return raw, false, nil
	}
	raw, err = s.split(data)
	return raw, err == nil, err
}

// split decodes the data registers. A measurement is never all ones or all zeros, and the
// low halves of press_xlsb and temp_xlsb are always 0.
func (s *bmx280) split(f []byte) (bmxRaw, error) {
	if uniform(f[:3]) || uniform(f[3:6]) || (f[2]|f[5])&0x0F != 0 {
		return bmxRaw{}, faultf("no measurement: % x", f)
	}
	raw := bmxRaw{
		pressure:    int(f[0])<<12 | int(f[1])<<4 | int(f[2])>>4,
		temperature: int(f[3])<<12 | int(f[4])<<4 | int(f[5])>>4,
	}
	if !s.humidity {
		return raw, nil
	}
	if uniform(f[6:8]) {
		return bmxRaw{}, faultf("no measurement of humidity: % x", f)
	}
	raw.humidity = int(f[6])<<8 | int(f[7])
	return raw, nil
}

// Close closes the bus. The chip sleeps by itself after each measurement.
func (s *bmx280) Close() error { return s.w.close() }

// bmxTrim is a chip's calibration, named as in table 16.
type bmxTrim struct {
	t1, t2, t3                         float64
	p1, p2, p3, p4, p5, p6, p7, p8, p9 float64
	h1, h2, h3, h4, h5, h6             float64
}

// newBMxTrim decodes the calibration of 0x88 to 0xA1, followed for a BME280 by 0xE1 to
// 0xE7. It refuses coefficients of 0 that would make a quantity independent of the
// measurement.
func newBMxTrim(c []byte) (bmxTrim, error) {
	unsigned := func(i int) float64 { return float64(binary.LittleEndian.Uint16(c[i:])) }
	signed := func(i int) float64 { return float64(int16(binary.LittleEndian.Uint16(c[i:]))) }
	t := bmxTrim{
		t1: unsigned(0), t2: signed(2), t3: signed(4),
		p1: unsigned(6), p2: signed(8), p3: signed(10), p4: signed(12), p5: signed(14),
		p6: signed(16), p7: signed(18), p8: signed(20), p9: signed(22),
	}
	impossible := uniform(c[:calibSize]) || t.t1 == 0 || t.t2 == 0 || t.p1 == 0
	if len(c) > calibSize {
		e := c[calibSize:]
		t.h1 = float64(c[25])
		t.h2 = float64(int16(binary.LittleEndian.Uint16(e)))
		t.h3 = float64(e[2])
		t.h4 = float64(int(int8(e[3]))<<4 | int(e[4]&0xF))
		t.h5 = float64(int(int8(e[5]))<<4 | int(e[4]>>4))
		t.h6 = float64(int8(e[6]))
		impossible = impossible || uniform(e) || t.h2 == 0
	}
	if impossible {
		return bmxTrim{}, faultf("its calibration is % x, which is impossible", c)
	}
	return t, nil
}

// The compensation is that of appendix 8.1, in floating point: the integer
// formulas of section 4.2.3 overflow for some calibrations.

// finePerDegree is the scale of t_fine.
const finePerDegree = 5120

// fine returns t_fine of a raw temperature.
func (c *bmxTrim) fine(raw int) float64 {
	x := (float64(raw)/16384 - c.t1/1024) * c.t2
	y := float64(raw)/131072 - c.t1/8192
	return x + y*y*c.t3
}

// pressure compensates a raw pressure, to pascal.
func (c *bmxTrim) pressure(raw int, fine float64) float64 {
	x := fine/2 - 64000
	y := x*x*c.p6/32768 + x*c.p5*2
	y = y/4 + c.p4*65536
	x = (c.p3*x*x/524288 + c.p2*x) / 524288
	x = (1 + x/32768) * c.p1
	p := (1048576 - float64(raw) - y/4096) * 6250 / x
	return p + (c.p9*p*p/2147483648+p*c.p8/32768+c.p7)/16
}

// humidity compensates a raw humidity, to percent from 0 to 100.
func (c *bmxTrim) humidity(raw int, fine float64) float64 {
	t := fine - 76800
	h := float64(raw) - (c.h4*64 + c.h5/16384*t)
	h *= c.h2 / 65536 * (1 + c.h6/67108864*t*(1+c.h3/67108864*t))
	h *= 1 - c.h1*h/524288
	return max(0, min(100, h))
}

// round returns the multiple of step, a power of ten, that is nearest to v, so that it
// prints with few digits.
func round(v, step float64) float64 {
	n := math.Round(1 / step)
	return math.Round(v*n) / n
}
