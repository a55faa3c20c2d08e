package sensors

import (
	"errors"
	"math"
	"time"

	"periph.io/x/conn/v3/physic"
	"periph.io/x/devices/v3/bmxx80"

	"fieldpost/sensors/board"
)

// Bosch's BME280 (temperature, humidity, pressure) and BMP280 (no humidity).
//
// Sources: BST-BME280-DS002-15, revision 1.6, September 2018;
// BST-BMP280-DS001-23, revision 1.23.
//
// The chip sleeps, and measures once for each reading (forced mode, no filter:
// section 3.5.1, weather monitoring). periph's driver does the talking and the
// compensation of temperature and pressure. Done here is what it leaves out:
// the identity is checked against the chip that the user named; a frame is
// looked at before it becomes numbers; humidity is compensated from it with
// the sign of dig_H4 and dig_H5, which that driver drops.

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
	Keys:       []string{"bus", "address"},
	Required:   []string{"bus"},
	Addresses:  bmx280Addresses,
	Quantities: bme280Quantities,
	Every:      10 * time.Second,
	Worst:      100 * time.Millisecond,
	Open: func(b board.Board, c Config) (Sensor, error) {
		return openBMx280(b, c, idBME280)
	},
}

var bmp280 = Chip{
	Name:       "bmp280",
	Title:      "Bosch BMP280: temperature and air pressure",
	Source:     "BST-BMP280-DS001-23, revision 1.23",
	Keys:       []string{"bus", "address"},
	Required:   []string{"bus"},
	Addresses:  bmx280Addresses,
	Quantities: bmp280Quantities,
	Every:      10 * time.Second,
	Worst:      100 * time.Millisecond,
	Open: func(b board.Board, c Config) (Sensor, error) {
		return openBMx280(b, c, idBMP280)
	},
}

// Registers, by the datasheet's names (table 18), and what they hold.
const (
	regCalib00 = 0x88
	regID      = 0xD0
	regCalib26 = 0xE1
	regCtrlHum = 0xF2
	regStatus  = 0xF3

	imUpdate   = 1 << 0 // status: the calibration is being copied
	osrsH1     = 1      // ctrl_hum: humidity oversampling x1
	skipped    = 0x80000
	skippedHum = 0x8000
)

// Chip ids, and who else may sit at these addresses.
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
	w   *wire
	dev *bmxx80.Dev
	hum *humidityTrim // nil on a BMP280
}

func openBMx280(b board.Board, c Config, id byte) (Sensor, error) {
	w, err := dial(b, c, bmx280Addresses)
	if err != nil {
		return nil, err
	}
	s := &bmx280{w: w}
	if err := s.setup(id); err != nil {
		return nil, errors.Join(w.wrap("open", err), w.close())
	}
	return s, nil
}

func (s *bmx280) setup(id byte) error {
	if err := s.identify(id); err != nil {
		return err
	}
	if err := s.awaitCalibration(); err != nil {
		return err
	}
	calib, err := s.w.read(regCalib00, 26)
	if err != nil {
		return err
	}
	if uniform(calib) {
		return faultf("its calibration is % x", calib)
	}
	if id == idBME280 {
		e, err := s.w.read(regCalib26, 7)
		if err != nil {
			return err
		}
		if uniform(e) {
			return faultf("its calibration of humidity is % x", e)
		}
		s.hum = newHumidityTrim(calib[25], e)
	}
	s.dev, err = bmxx80.NewI2C(s.w, s.w.addr, &bmxx80.Opts{
		Temperature: bmxx80.O1x, Pressure: bmxx80.O4x, Humidity: bmxx80.O1x,
	})
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
		whose = "no chip's that is known here"
	}
	return faultf("chip id %#02x is %s (want %#02x)", got[0], whose, id)
}

// awaitCalibration waits until the chip has copied its calibration from its
// memory, 2 ms after power comes on.
func (s *bmx280) awaitCalibration() error {
	for range 5 {
		status, err := s.w.read(regStatus, 1)
		if err != nil {
			return err
		}
		if status[0]&imUpdate == 0 {
			return nil
		}
		<-time.After(2 * time.Millisecond)
	}
	return faultf("status says that it is copying its calibration, and does not end")
}

// Sense measures once.
func (s *bmx280) Sense() ([]Field, error) {
	s.w.begin()
	fields, err := s.sense()
	return fields, s.w.wrap("read", err)
}

func (s *bmx280) sense() ([]Field, error) {
	if s.hum != nil {
		// Forgotten when the chip alone lost its power; everything else
		// that it needs is in the write which starts the measurement.
		if err := s.w.write(regCtrlHum, osrsH1); err != nil {
			return nil, err
		}
	}
	var e physic.Env
	if err := s.dev.Sense(&e); err != nil {
		return nil, err
	}
	raw, err := s.check(s.w.frame)
	if err != nil {
		return nil, err
	}
	celsius := e.Temperature.Celsius()
	t := round(celsius, 0.01)
	p := round(float64(e.Pressure)/float64(physic.Pascal), 1)
	if s.hum == nil {
		return values(bmp280Quantities, t, p)
	}
	return values(bme280Quantities, t, round(s.hum.percent(raw, celsius), 0.01), p)
}

// check looks at a frame of the data registers 0xF7 to 0xFE and gives the raw
// humidity: a measurement that was skipped has a value of its own, and no
// measurement is all ones or all zeros.
func (s *bmx280) check(f []byte) (hum int, err error) {
	want := 6
	if s.hum != nil {
		want = 8
	}
	if len(f) != want {
		return 0, faultf("%d bytes of data (want %d)", len(f), want)
	}
	press := int(f[0])<<12 | int(f[1])<<4 | int(f[2])>>4
	temp := int(f[3])<<12 | int(f[4])<<4 | int(f[5])>>4
	if temp == skipped || press == skipped {
		return 0, faultf("it has not measured: % x", f)
	}
	if uniform(f[:3]) || uniform(f[3:6]) {
		return 0, faultf("no measurement: % x", f)
	}
	if s.hum == nil {
		return 0, nil
	}
	hum = int(f[6])<<8 | int(f[7])
	if hum == skippedHum || uniform(f[6:8]) {
		return 0, faultf("it has not measured humidity: % x", f)
	}
	return hum, nil
}

// Close lets the chip sleep, which after each measurement it does by itself.
func (s *bmx280) Close() error {
	if s.w.closed() {
		return nil
	}
	s.w.begin()
	return errors.Join(s.w.wrap("halt", s.dev.Halt()), s.w.close())
}

// humidityTrim is the calibration of humidity, named as in table 16.
type humidityTrim struct{ h1, h2, h3, h4, h5, h6 float64 }

// newHumidityTrim takes dig_H1 from 0xA1 and the others from 0xE1 to 0xE7.
func newHumidityTrim(h1 byte, e []byte) *humidityTrim {
	return &humidityTrim{
		h1: float64(h1),
		h2: float64(int16(uint16(e[0]) | uint16(e[1])<<8)),
		h3: float64(e[2]),
		h4: float64(int(int8(e[3]))<<4 | int(e[4]&0xF)),
		h5: float64(int(int8(e[5]))<<4 | int(e[4]>>4)),
		h6: float64(int8(e[6])),
	}
}

// percent compensates a raw humidity at a temperature: appendix 8.1, in
// floating point, where t_fine is 5120 to the degree.
func (c *humidityTrim) percent(raw int, celsius float64) float64 {
	t := celsius*5120 - 76800
	h := float64(raw) - (c.h4*64 + c.h5/16384*t)
	h *= c.h2 / 65536 * (1 + c.h6/67108864*t*(1+c.h3/67108864*t))
	h *= 1 - c.h1*h/524288
	return max(0, min(100, h))
}

// round gives the multiple of step, a power of ten, that is nearest to v, so
// that it prints without a tail.
func round(v, step float64) float64 {
	n := math.Round(1 / step)
	return math.Round(v*n) / n
}
