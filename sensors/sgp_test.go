package sensors

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/i2c/i2ctest"

	"fieldpost/sensors/board"
	"fieldpost/sensors/sim"
)

// playBoard is a board whose bus plays recorded traffic.
type playBoard struct {
	board.Board
	*i2ctest.Playback
}

func (b playBoard) Bus(string) (i2c.BusCloser, error) { return b.Playback, nil }
func (b playBoard) String() string                    { return "recorded" }

// open opens a chip on recorded traffic.
func openRecorded(t *testing.T, chip string, options any, ops ...i2ctest.IO) Sensor {
	t.Helper()
	entry, _ := Lookup(chip)
	s, err := entry.Open(playBoard{nil, &i2ctest.Playback{Ops: ops, DontPanic: true}}, Config{Chip: chip, Options: options})
	if err != nil {
		t.Fatalf("%s: %v", chip, err)
	}
	return s
}

// The commands of the data sheets, with the checksums that they print for the default air
// (SGP40, table 10).
func TestSGPRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		features := []i2ctest.IO{{Addr: 0x59, W: []byte{0x20, 0x2F}}, {Addr: 0x59, R: []byte{0x32, 0x20, crc8(0x31, 0xFF, []byte{0x32, 0x20})}}}
		serial := []i2ctest.IO{{Addr: 0x59, W: []byte{0x36, 0x82}}, {Addr: 0x59, R: []byte{0, 0, 0x81, 0, 1, 0xB0, 0x02, 0x22, 0xBC}}}
		measure := []i2ctest.IO{{Addr: 0x59, W: []byte{0x26, 0x0F, 0x80, 0x00, 0xA2, 0x66, 0x66, 0x93}}, {Addr: 0x59, R: []byte{0xBE, 0xEF, 0x92}}}
		ops := append(append(append(features, serial...), measure...), measure...)
		s := openRecorded(t, "sgp40", SGP4x{I2C: I2C{Bus: "x"}, Temperature: 25, Humidity: 50}, ops...)
		if f, err := s.Sense(); err != nil || fmt.Sprint(f) != "[{voc_raw 48879}]" {
			t.Errorf("%v, %v", f, err)
		}
		// An SGP30 that was measuring keeps its baseline: it is read in one order and set in the
		// other.
		s = openRecorded(t, "sgp30", SGP30{I2C: I2C{Bus: "x"}},
			i2ctest.IO{Addr: 0x58, W: []byte{0x20, 0x2F}}, i2ctest.IO{Addr: 0x58, R: []byte{0x00, 0x22, 0x65}},
			i2ctest.IO{Addr: 0x58, W: []byte{0x20, 0x15}}, i2ctest.IO{Addr: 0x58, R: []byte{0xBE, 0xEF, 0x92, 0x01, 0xF4, 0x33}},
			i2ctest.IO{Addr: 0x58, W: []byte{0x20, 0x03}},
			i2ctest.IO{Addr: 0x58, W: []byte{0x20, 0x1E, 0x01, 0xF4, 0x33, 0xBE, 0xEF, 0x92}},
			i2ctest.IO{Addr: 0x58, W: []byte{0x20, 0x08}}, i2ctest.IO{Addr: 0x58, R: []byte{0x01, 0xF4, 0x33, 0x00, 0x01, 0xB0}},
			i2ctest.IO{Addr: 0x58, W: []byte{0x20, 0x15}}, i2ctest.IO{Addr: 0x58, R: []byte{0xBE, 0xEF, 0x92, 0x01, 0xF4, 0x33}},
		)
		<-time.After(sgp30Initialising)
		if f, err := s.Sense(); err != nil || fmt.Sprint(f) != "[{tvoc 1} {eco2 500}]" {
			t.Errorf("%v, %v", f, err)
		}
	})
}

// open opens one of the gas sensors on a simulated bus.
func openGas(t *testing.T, b *sim.Board, chip string, options any) Sensor {
	t.Helper()
	entry, _ := Lookup(chip)
	s, err := entry.Open(b, Config{Chip: chip, Options: options})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The first 15 s have no values. A restart of the daemon keeps the baseline; a chip that lost its
// power is a fault, and never 400 ppm.
func TestSGP30(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		chip := sim.AddSGP30(b.AddBus("i2c-1"))
		o := SGP30{I2C: I2C{Bus: "i2c-1"}, Temperature: 20, Humidity: 50}
		second := func() { <-time.After(time.Second) }
		for restart := range 2 {
			s := openGas(t, b, "sgp30", o)
			for i := range 15 {
				if f, err := s.Sense(); !errors.Is(err, ErrNotReady) || f != nil {
					t.Fatalf("restart %d, second %d: %v, %v", restart, i, f, err)
				}
				second()
			}
			if f, err := s.Sense(); err != nil || fmt.Sprint(f) != "[{tvoc 12} {eco2 450}]" {
				t.Errorf("%v, %v", f, err)
			}
			// 8.6 g/m³, as README's table of derived values has for this air
			if base, humidity := chip.Baseline(); base != [2]uint16{0x8973, 0x8AAE} || humidity < 86*256/10-20 || humidity > 87*256/10 {
				t.Errorf("baseline %04x, humidity %d/256 g/m³", base, humidity)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		s := openGas(t, b, "sgp30", o)
		for range 16 {
			second()
		}
		if _, err := s.Sense(); err != nil {
			t.Error(err)
		}
		chip.PowerCycle()
		if f, err := s.Sense(); !errors.Is(err, ErrFault) || !strings.Contains(err.Error(), "its baseline is 0") {
			t.Errorf("after a loss of power: %v, %v", f, err)
		}
	})
}

// The air goes with each command. An SGP41 is conditioned for ten seconds at most. The two chips
// are told apart.
func TestSGP4x(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		bus := b.AddBus("i2c-1")
		chip := sim.AddSGP41(bus)
		o := SGP4x{I2C: I2C{Bus: "i2c-1"}, Temperature: 130, Humidity: 100}
		s := openGas(t, b, "sgp41", o)
		conditioned := 0
		began := time.Now()
		for {
			f, err := s.Sense()
			if err == nil {
				if fmt.Sprint(f) != "[{voc_raw 30000} {nox_raw 15000}]" {
					t.Errorf("%v", f)
				}
				break
			}
			if !errors.Is(err, ErrNotReady) {
				t.Fatal(err)
			}
			conditioned++
			<-time.After(time.Second)
		}
		if took := time.Since(began); took > 10*time.Second || conditioned < 8 {
			t.Errorf("conditioned %d times in %v", conditioned, took)
		}
		if chip.Air() != [2]uint16{0xFFFF, 0xFFFF} {
			t.Errorf("the chip was told %04x of the air", chip.Air())
		}
		entry, _ := Lookup("sgp40")
		if s, err := entry.Open(b, Config{Chip: "sgp40", Options: o}); s != nil || !errors.Is(err, ErrFault) {
			t.Errorf("an SGP41 as an SGP40: %v", err)
		}
		sim.AddSGP40(bus)
		openGas(t, b, "sgp40", SGP4x{I2C: I2C{Bus: "i2c-1"}, Temperature: 25, Humidity: 50})
	})
}
