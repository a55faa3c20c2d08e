package sensors

import (
	"math"
	"time"
)

// Sensirion's temperature and humidity sensors SHT3x, SHT4x and SHTC3, and Texas
// Instruments' HDC302x, which has the SHT3x's commands (SNAS778D, July 2024, table 7-4:
// 12.5 ms for a measurement).
//
// Sources: SHT3x-DIS data sheet, version 5, May 2018: commands tables 9 to 19,
// 15.5 ms at most for a measurement of high repeatability, 1.5 ms for a soft
// reset. SHT4x data sheet, version 6.5, 2023: commands table 7, 8.3 ms, 1 ms.
// SHTC3 data sheet, version 2, 2019: commands tables 9 to 15, 12.1 ms, 240 us to
// wake.
//
// Each measures once for a reading and then sleeps, by itself or on command. The driver
// uses no clock stretching, which a Raspberry Pi's controller does not support; so the
// chip does not acknowledge a read before it is done. A chip that lost its power returns
// no earlier measurement.

// percentRH is the quantity of a humidity sensor.
var percentRH = Quantity{Name: "humidity", Unit: "%", Min: 0, Max: 100}

var sht3x = deviceChip(Chip{
	Name:      "sht3x",
	Title:     "Sensirion SHT30, SHT31, SHT35: temperature and humidity",
	Source:    "SHT3x-DIS data sheet, version 5, May 2018",
	Addresses: []uint16{0x44, 0x45},
	Quantities: []Quantity{
		{Name: "temperature", Unit: "Cel", Min: -40, Max: 125}, percentRH,
	},
	Worst: 100 * time.Millisecond,
}, func(w *wire) device { return &sht3xDevice{words: words{w, sht3xStatus}} })

// Commands of the SHT3x.
const (
	sht3xMeasure = 0x2400 // once, high repeatability, no clock stretching
	sht3xBreak   = 0x3093 // ends periodic measurement
	sht3xReset   = 0x30A2
	sht3xStatus  = 0xF32D

	sht3xHeater   = 1 << 13
	sht3xReserved = 1<<14 | 1<<12 | 3<<2 // always 0, table 18
)

// sht3xDevice is an SHT3x, or Texas Instruments' HDC302x, which has the same commands and
// an identity.
type sht3xDevice struct {
	words
	id uint16 // the answer to hdc302xID; 0: the chip has no such command
}

// setup resets the chip, which switches its heater off.
func (d *sht3xDevice) setup() error {
	if err := d.command(sht3xBreak); err != nil { // the only command that it accepts while it measures periodically
		return err
	}
	d.pause(time.Millisecond)
	if err := d.command(sht3xReset); err != nil {
		return err
	}
	d.pause(3 * time.Millisecond)
	if d.id != 0 {
		id, err := d.ask(hdc302xID, time.Millisecond, 1)
		if err != nil {
			return err
		}
		if id[0] != d.id {
			return faultf("manufacturer id %#04x is not an HDC302x's (want %#04x)", id[0], d.id)
		}
	}
	return d.check()
}

// check returns an error if the heater is on, which would make the values wrong, or the
// status is impossible.
func (d *sht3xDevice) check() error {
	status, err := d.ask(sht3xStatus, time.Millisecond, 1)
	switch {
	case err != nil:
		return err
	case status[0]&sht3xReserved != 0:
		return faultf("status %#04x is not an SHT3x's", status[0])
	case status[0]&sht3xHeater != 0:
		return faultf("its heater is on (status %#04x, was set to be off): another program has switched it on", status[0])
	}
	return nil
}

func (d *sht3xDevice) measure() ([]float64, error) {
	v, err := d.ask(sht3xMeasure, 16*time.Millisecond, 2) // words retries for 5 ms
	if err != nil {
		return nil, err
	}
	if err := d.check(); err != nil {
		return nil, err
	}
	return []float64{round(celsius175(v[0], 65535), 0.01), round(100*float64(v[1])/65535, 0.01)}, nil
}

func (d *sht3xDevice) sleep() error { return nil }

var hdc302x = deviceChip(Chip{
	Name:      "hdc302x",
	Title:     "Texas Instruments HDC3020, HDC3021, HDC3022: temperature and humidity",
	Source:    "SNAS778D, July 2024",
	Addresses: []uint16{0x44, 0x45, 0x46, 0x47},
	Quantities: []Quantity{
		{Name: "temperature", Unit: "Cel", Min: -40, Max: 125}, percentRH,
	},
	Worst: 100 * time.Millisecond,
}, func(w *wire) device { return &sht3xDevice{words{w, sht3xStatus}, hdc302xTI} })

const (
	hdc302xID = 0x3781 // reads the manufacturer
	hdc302xTI = 0x3000
)

var sht4x = deviceChip(Chip{
	Name:      "sht4x",
	Title:     "Sensirion SHT40, SHT41, SHT43, SHT45: temperature and humidity",
	Source:    "SHT4x data sheet, version 6.5",
	Addresses: []uint16{0x44, 0x45, 0x46},
	Quantities: []Quantity{
		{Name: "temperature", Unit: "Cel", Min: -40, Max: 125}, percentRH,
	},
	Worst: 100 * time.Millisecond,
}, func(w *wire) device { return &sht4xDevice{words{wire: w}} })

// Commands of the SHT4x, of eight bits.
const (
	sht4xMeasure = 0xFD // high precision
	sht4xSerial  = 0x89
	sht4xReset   = 0x94
)

type sht4xDevice struct{ words }

func (d *sht4xDevice) command8(code byte, wait time.Duration) ([]uint16, error) {
	if err := d.send(code); err != nil {
		return nil, err
	}
	d.pause(wait)
	b, err := d.answer(6, time.Millisecond, 5, sht4xSerial)
	if err != nil {
		return nil, err
	}
	return sensirionWords(b)
}

// setup resets the chip, which switches its heater off, and reads its serial number,
// whose checksums identify the chip.
func (d *sht4xDevice) setup() error {
	if err := d.send(sht4xReset); err != nil {
		return err
	}
	d.pause(time.Millisecond)
	_, err := d.command8(sht4xSerial, time.Millisecond)
	return err
}

func (d *sht4xDevice) measure() ([]float64, error) {
	v, err := d.command8(sht4xMeasure, 9*time.Millisecond)
	if err != nil {
		return nil, err
	}
	return []float64{round(celsius175(v[0], 65535), 0.01), round(sht4xHumidity(v[1]), 0.01)}, nil
}

// sht4xHumidity limits the humidity to 0 to 100, because the formula may exceed this a
// little (section 4.6).
func sht4xHumidity(word uint16) float64 {
	return math.Max(0, math.Min(100, -6+125*float64(word)/65535))
}

func (d *sht4xDevice) sleep() error { return nil }

var shtc3 = deviceChip(Chip{
	Name:      "shtc3",
	Title:     "Sensirion SHTC3: temperature and humidity",
	Source:    "SHTC3 data sheet, version 2, 2019",
	Addresses: []uint16{0x70},
	Quantities: []Quantity{
		{Name: "temperature", Unit: "Cel", Min: -40, Max: 125}, percentRH,
	},
	Worst: 100 * time.Millisecond,
}, func(w *wire) device { return &shtc3Device{words{w, shtc3ID}} })

// Commands of the SHTC3.
const (
	shtc3Wake    = 0x3517
	shtc3Sleep   = 0xB098
	shtc3Measure = 0x7866 // temperature first, no clock stretching, normal mode
	shtc3ID      = 0xEFC8

	shtc3IDMask = 0x083F
	shtc3IDIs   = 0x0807
)

type shtc3Device struct{ words }

func (d *shtc3Device) wake() error {
	if err := d.command(shtc3Wake); err != nil {
		return err
	}
	d.pause(time.Millisecond)
	return nil
}

func (d *shtc3Device) setup() error {
	if err := d.wake(); err != nil {
		return err
	}
	id, err := d.ask(shtc3ID, time.Millisecond, 1)
	if err != nil {
		return err
	}
	if id[0]&shtc3IDMask != shtc3IDIs {
		return faultf("id %#04x is not an SHTC3's", id[0])
	}
	return d.command(shtc3Sleep)
}

func (d *shtc3Device) measure() ([]float64, error) {
	if err := d.wake(); err != nil {
		return nil, err
	}
	v, err := d.ask(shtc3Measure, 13*time.Millisecond, 2)
	if err != nil {
		return nil, err
	}
	if err := d.command(shtc3Sleep); err != nil {
		return nil, err
	}
	return []float64{round(celsius175(v[0], 65536), 0.01), round(100*float64(v[1])/65536, 0.01)}, nil
}

// sleep does nothing: the chip sleeps between measurements, and would not acknowledge a
// command.
func (d *shtc3Device) sleep() error { return nil }
