package sensors

import "time"

// Aosong's AHT10 and AHT20: temperature and humidity. An AHT15 is like the AHT10; AHT21,
// AHT25 and DHT20 are like the AHT20.
//
// Sources: Aosong, DHT20 data sheet, version 1.0, May 2021, sections 7.3 and 7.4:
// status, measurement, checksum; AHT20 product manual, version 1.1; AHT10 product
// manual, version 1.1: command 0xE1, no checksum.
//
// The chip measures on command. It has no identity. It is recognised by the status bits
// that say that its calibration is loaded, and by the checksum.

var ahtAddresses = []uint16{0x38, 0x39}

var ahtQuantities = []Quantity{{Name: "temperature", Unit: "Cel", Min: -40, Max: 120}, percentRH}

var aht20 = deviceChip(Chip{
	Name:       "aht20",
	Title:      "Aosong AHT20, AHT21, AHT25, DHT20: temperature and humidity",
	Source:     "Aosong, DHT20 data sheet, version 1.0",
	Addresses:  ahtAddresses[:1],
	Quantities: ahtQuantities,
	Worst:      500 * time.Millisecond,
}, func(w *wire) device { return &ahtDevice{wire: w, crc: true, load: 0xBE} })

var aht10 = deviceChip(Chip{
	Name:       "aht10",
	Title:      "Aosong AHT10, AHT15: temperature and humidity",
	Source:     "Aosong, AHT10 product manual, version 1.1",
	Addresses:  ahtAddresses,
	Quantities: ahtQuantities,
	Worst:      500 * time.Millisecond,
}, func(w *wire) device { return &ahtDevice{wire: w, load: 0xE1} })

const (
	ahtReset   = 0xBA
	ahtMeasure = 0xAC
	ahtStatus  = 0x71

	ahtBusy   = 1 << 7
	ahtCal    = 1 << 3 // the calibration is loaded
	ahtLoaded = 0x18   // the value that section 7.4 requires after power-on

	ahtTime  = 80 * time.Millisecond
	ahtPoll  = 10 * time.Millisecond
	ahtPolls = 5 // some chips take longer than specified
)

type ahtDevice struct {
	*wire
	crc  bool
	load byte // the command that loads the calibration
}

// setup resets the chip and makes it load its calibration if it has not.
func (d *ahtDevice) setup() error {
	if err := d.send(ahtReset); err != nil {
		return err
	}
	d.pause(20 * time.Millisecond)
	status, err := d.status()
	if err != nil || status&ahtLoaded == ahtLoaded {
		return err
	}
	if err := d.send(d.load, 0x08, 0x00); err != nil {
		return err
	}
	d.pause(10 * time.Millisecond)
	if status, err = d.status(); err == nil && status&(ahtBusy|ahtCal) != ahtCal {
		err = faultf("status %#02x: its calibration is not loaded", status)
	}
	return err
}

func (d *ahtDevice) status() (byte, error) {
	if err := d.send(ahtStatus); err != nil {
		return 0, err
	}
	b := make([]byte, 1)
	err := d.Tx(d.addr, nil, b)
	return b[0], err
}

func (d *ahtDevice) measure() ([]float64, error) {
	if err := d.send(ahtMeasure, 0x33, 0x00); err != nil {
		return nil, err
	}
	d.pause(ahtTime)
	n := 6
	if d.crc {
		n = 7
	}
	b := make([]byte, n)
	for range ahtPolls {
		if err := d.Tx(d.addr, nil, b); err != nil {
			return nil, err
		}
		if b[0]&ahtBusy == 0 {
			return ahtValues(b)
		}
		d.pause(ahtPoll)
	}
	return nil, faultf("a measurement does not end (% x)", b)
}

// ahtValues converts an answer, of seven bytes with a checksum and of six without.
func ahtValues(b []byte) ([]float64, error) {
	if len(b) == 7 {
		if crc := crc8(0x31, 0xFF, b[:6]); crc != b[6] {
			return nil, faultf("the checksum of % x is %#02x", b, crc)
		}
	}
	humidity := uint32(b[1])<<12 | uint32(b[2])<<4 | uint32(b[3])>>4
	temperature := uint32(b[3])&0x0F<<16 | uint32(b[4])<<8 | uint32(b[5])
	switch {
	case b[0]&ahtCal == 0:
		return nil, faultf("status %#02x: its calibration is not loaded: it lost its power or was exchanged", b[0])
	case humidity == 0 || temperature == 0:
		return nil, faultf("no measurement: % x", b)
	}
	const full = 1 << 20
	return []float64{round(float64(temperature)/full*200-50, 0.01), round(float64(humidity)/full*100, 0.01)}, nil
}

// sleep does nothing: the chip sleeps by itself.
func (d *ahtDevice) sleep() error { return nil }
