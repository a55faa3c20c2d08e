package sensors

import (
	"math"
	"time"
)

// Measurement Specialties' (TE's) HTU21D, Sensirion's SHT20, SHT21 and SHT25, and
// Silicon Labs' Si7013, Si7020 and Si7021: temperature and humidity, with the same
// commands.
//
// Sources: HPC199_6, HTU21D(F), October 2013; SHT21 data sheet, version 4, May 2014;
// Si7021-A20, revision 1.2. The maximum times for temperature and humidity differ: 50 and
// 16 ms, 85 and 29 ms, 11 and 12 ms.
//
// Two bits of an answer say which quantity was measured (bit 1: humidity). With the
// commands that do not stretch the clock, the chip does not acknowledge a read before it
// is done. Only the Si70xx have an identity; the others are recognised by the checksums
// and by their user register.

var htu21Quantities = []Quantity{{Name: "temperature", Unit: "Cel", Min: -40, Max: 125}, percentRH}

func htu21Chip(name, title, source string, silabs bool) Chip {
	return deviceChip(Chip{
		Name: name, Title: title, Source: source, Addresses: []uint16{0x40}, Quantities: htu21Quantities,
		Worst: 500 * time.Millisecond,
	}, func(w *wire) device { return &htu21Device{w, silabs} })
}

var (
	htu21d = htu21Chip("htu21d", "TE HTU21D: temperature and humidity", "HPC199_6, October 2013", false)
	sht21  = htu21Chip("sht21", "Sensirion SHT20, SHT21, SHT25: temperature and humidity", "SHT21 data sheet, version 4", false)
	si7021 = htu21Chip("si7021", "Silicon Labs Si7013, Si7020, Si7021: temperature and humidity", "Si7021-A20, revision 1.2", true)
)

const (
	htuTemperature = 0xF3 // no hold
	htuHumidity    = 0xF5 // no hold
	htuReset       = 0xFE // 15 ms
	htuUser        = 0xE7 // read the user register

	htuHeater   = 1 << 2 // bit of the user register
	htuOfHumid  = 1 << 1 // bit of an answer: humidity
	htuStatuses = 3      // the bits of an answer that do not belong to the value

	htuFirst = 12 * time.Millisecond
	htuEvery = 10 * time.Millisecond
	htuTries = 12
)

// siIDs are the first bytes of a Si70xx's second serial number.
var siIDs = map[byte]bool{0x0D: true, 0x14: true, 0x15: true, 0x00: true, 0xFF: true}

type htu21Device struct {
	*wire
	silabs bool
}

// setup resets the chip. The reset does not change the heater.
func (d *htu21Device) setup() error {
	if err := d.send(htuReset); err != nil {
		return err
	}
	d.pause(15 * time.Millisecond)
	if d.silabs {
		id := make([]byte, 6)
		if err := d.Tx(d.addr, []byte{0xFC, 0xC9}, id); err != nil {
			return err
		}
		if uniform(id) || !siIDs[id[0]] || crc8(0x31, 0, id[:2]) != id[2] {
			return faultf("its serial number % x is not a Si70xx's", id)
		}
	}
	user, err := d.read(htuUser, 1)
	if err == nil && uniform(user) {
		err = faultf("its user register reads %#02x", user[0])
	}
	if err != nil || user[0]&htuHeater == 0 {
		return err
	}
	return d.write(0xE6, user[0]&^htuHeater)
}

func (d *htu21Device) measure() ([]float64, error) {
	user, err := d.read(htuUser, 1)
	if err != nil {
		return nil, err
	}
	if user[0]&htuHeater != 0 {
		return nil, faultf("its heater is on (user register %#02x, was set to be off): another program has switched it on", user[0])
	}
	t, err := d.convert(htuTemperature, 0)
	if err != nil {
		return nil, err
	}
	rh, err := d.convert(htuHumidity, htuOfHumid)
	if err != nil {
		return nil, err
	}
	return []float64{round(htuCelsius(t), 0.01), round(htuPercent(rh), 0.01)}, nil
}

// convert measures one quantity.
func (d *htu21Device) convert(command byte, status uint16) (uint16, error) {
	if err := d.send(command); err != nil {
		return 0, err
	}
	d.pause(htuFirst)
	b, err := d.answer(3, htuEvery, htuTries, htuUser)
	if err != nil {
		return 0, err
	}
	return htuWord(b, status)
}

// htuWord decodes an answer.
func htuWord(b []byte, status uint16) (uint16, error) {
	w := uint16(b[0])<<8 | uint16(b[1])
	switch crc := crc8(0x31, 0, b[:2]); {
	case uniform(b): // zeros pass the checksum
		return 0, faultf("no measurement: % x", b)
	case crc != b[2]:
		return 0, faultf("the checksum of % x is %#02x", b, crc)
	case w&htuOfHumid != status:
		return 0, faultf("it returned the other quantity than requested: % x", b)
	}
	return w &^ htuStatuses, nil
}

func htuCelsius(w uint16) float64 { return -46.85 + 175.72*float64(w)/65536 }

// htuPercent limits the humidity to 0 to 100, because the formula may exceed this a
// little.
func htuPercent(w uint16) float64 { return math.Max(0, math.Min(100, -6+125*float64(w)/65536)) }

// sleep does nothing: the chip sleeps by itself.
func (d *htu21Device) sleep() error { return nil }
