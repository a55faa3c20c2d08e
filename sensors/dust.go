package sensors

import (
	"encoding/binary"
	"time"

	"fieldpost/sensors/board"
	"fieldpost/sensors/option"
)

// Dust sensors on a serial port: Plantower's PMS5003, PMS7003 and PMSA003, and Nova's
// SDS011.
//
// Sources: Plantower, PMS5003 series data manual, version 2.3, June 2016, appendix I:
// frames and commands; Nova Fitness, Laser Dust Sensor Control Protocol V1.3, October
// 2015.
//
// Both are set to answer only when asked. A sensor that lost its power sends frames by
// itself again. These have the same form, so its values stay right; if a frame is cut,
// its checksum is wrong and the sensor is configured again. Both need half a minute of
// moving air after power-on, and have no sign for it.

// The limits are those of the effective range: PMS 500 µg/m³ and more by its manual
// (maximum range at least 1000), SDS 999.9.
var (
	pmsQuantities = []Quantity{
		{Name: "pm1", Unit: "ug/m3", Min: 0, Max: 5000},
		{Name: "pm2_5", Unit: "ug/m3", Min: 0, Max: 5000},
		{Name: "pm10", Unit: "ug/m3", Min: 0, Max: 5000},
	}
	sdsQuantities = []Quantity{
		{Name: "pm2_5", Unit: "ug/m3", Min: 0, Max: 999.9},
		{Name: "pm10", Unit: "ug/m3", Min: 0, Max: 999.9},
	}
)

var pms5003 = dustChip(Chip{
	Name: "pms5003", Title: "Plantower PMS5003, PMS7003, PMSA003: dust", Source: "PMS5003 series data manual, version 2.3",
	Quantities: pmsQuantities,
}, func(w *serialWire) device { return &pmsDevice{w} })

var sds011 = dustChip(Chip{
	Name: "sds011", Title: "Nova SDS011: dust", Source: "Laser Dust Sensor Control Protocol V1.3",
	Quantities: sdsQuantities,
}, func(w *serialWire) device { return &sdsDevice{w} })

func dustChip(c Chip, driver func(*serialWire) device) Chip {
	port := func(cfg Config) board.SerialConfig {
		return board.SerialConfig{Device: optionsOf[Serial](cfg).Device, Baud: 9600}
	}
	c.Options = option.Set{Defaults: Serial{}, Rules: map[string]option.Rule{"device": serialRule}}
	c.Every, c.Worst = 30*time.Second, 5*time.Second
	c.Look = func(b board.Board, cfg Config) error { return lookSerial(b, port(cfg)) }
	c.Open = func(b board.Board, cfg Config) (Sensor, error) {
		w, err := dialSerial(b, cfg.Chip, port(cfg))
		if err != nil {
			return nil, err
		}
		return openDevice(&w.handle, driver(w), c.Quantities)
	}
	return c
}

const (
	pmsPassive = 0xE1 // with 0: answers only when asked
	pmsRead    = 0xE2
	pmsLength  = 32
	pmsWithin  = time.Second
	// pmsSettles is how long the rest of a frame and the answer to a command take.
	pmsSettles = 200 * time.Millisecond
)

type pmsDevice struct{ *serialWire }

// setup makes the sensor answer only when asked, and asks once.
func (d *pmsDevice) setup() error {
	if err := d.say(pmsCommand(pmsPassive, 0)); err != nil {
		return err
	}
	d.pause(pmsSettles)
	_, err := d.measure()
	return err
}

func (d *pmsDevice) measure() ([]float64, error) {
	frame, err := d.ask(pmsCommand(pmsRead, 0), pmsLength, pmsWithin)
	if err != nil {
		return nil, err
	}
	return pmsValues(frame)
}

// pmsCommand makes a command.
func pmsCommand(command byte, data uint16) []byte {
	p := []byte{0x42, 0x4D, command, byte(data >> 8), byte(data)}
	return binary.BigEndian.AppendUint16(p, sum16(p))
}

func sum16(p []byte) (sum uint16) {
	for _, b := range p {
		sum += uint16(b)
	}
	return sum
}

// pmsValues decodes the concentrations "under atmospheric environment" of a frame.
func pmsValues(f []byte) ([]float64, error) {
	switch want := sum16(f[:pmsLength-2]); {
	case f[0] != 0x42 || f[1] != 0x4D || f[2] != 0 || f[3] != pmsLength-4:
		return nil, faultf("% x is no frame of a PMS5003", f)
	case binary.BigEndian.Uint16(f[pmsLength-2:]) != want:
		return nil, faultf("the checksum of % x is %#04x", f, want)
	}
	v := make([]float64, 3)
	for i := range v {
		v[i] = float64(binary.BigEndian.Uint16(f[10+2*i:]))
	}
	return v, nil
}

func (d *pmsDevice) sleep() error { return nil }

const (
	sdsLength = 10
	sdsWithin = time.Second
)

type sdsDevice struct{ *serialWire }

// setup wakes the sensor, which does not answer while it sleeps, and makes it measure
// continuously and answer only when asked.
func (d *sdsDevice) setup() error {
	for _, command := range [][3]byte{{6, 1, 1}, {8, 1, 0}, {2, 1, 1}} {
		if err := d.say(sdsCommand(command)); err != nil {
			return err
		}
		d.pause(100 * time.Millisecond)
	}
	_, err := d.measure()
	return err
}

func (d *sdsDevice) measure() ([]float64, error) {
	frame, err := d.ask(sdsCommand([3]byte{4, 0, 0}), sdsLength, sdsWithin)
	if err != nil {
		return nil, err
	}
	return sdsValues(frame)
}

// sdsCommand makes a command for any sensor.
func sdsCommand(command [3]byte) []byte {
	p := make([]byte, 19)
	copy(p, []byte{0xAA, 0xB4, command[0], command[1], command[2]})
	p[15], p[16] = 0xFF, 0xFF
	p[17], p[18] = byte(sum16(p[2:17])), 0xAB
	return p
}

// sdsValues decodes the concentrations of a frame.
func sdsValues(f []byte) ([]float64, error) {
	switch want := byte(sum16(f[2:8])); {
	case f[0] != 0xAA || f[1] != 0xC0 || f[9] != 0xAB:
		return nil, faultf("% x is no frame of an SDS011", f)
	case f[8] != want:
		return nil, faultf("the checksum of % x is %#02x", f, want)
	}
	tenths := func(i int) float64 { return float64(binary.LittleEndian.Uint16(f[i:])) / 10 }
	return []float64{tenths(2), tenths(4)}, nil
}

func (d *sdsDevice) sleep() error { return nil }
