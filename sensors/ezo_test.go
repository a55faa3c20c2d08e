package sensors

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/i2c/i2ctest"

	"fieldpost/sensors/sim"
)

// text is an answer of a circuit, as many bytes as are read.
func text(s string) []byte {
	p := make([]byte, ezoLength)
	p[0] = ezoDone
	copy(p[1:], s)
	return p
}

// The examples of the data sheet of the EZO-pH: device information (section "Device
// information"), a reading of 9.560 ("Taking reading"), temperature compensation at 19.5.
func TestEZORecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		say := func(s string, answer []byte) []i2ctest.IO {
			return []i2ctest.IO{{Addr: 0x63, W: []byte(s)}, {Addr: 0x63, R: answer}}
		}
		pending := make([]byte, ezoLength)
		pending[0] = ezoPending
		var ops []i2ctest.IO
		ops = append(ops, say("i", text("?i,pH,1.98"))...)
		ops = append(ops, say("T,19.50", text(""))...)
		ops = append(ops, say("R", pending)...)
		ops = append(ops, i2ctest.IO{Addr: 0x63, R: text("9.560")})
		ops = append(ops, say("T,?", text("?T,19.5"))...)
		s := openRecorded(t, "ezoph", EZO{I2C{Bus: "x"}, 19.5}, ops...)
		if f, err := s.Sense(); err != nil || fmt.Sprint(f) != "[{ph 9.56}]" {
			t.Errorf("%v, %v", f, err)
		}
	})
}

func TestEZOReadings(t *testing.T) {
	for _, c := range []struct {
		chip, kind       string
		reading, outputs string
		want             string // the reading, or part of the error
	}{
		{"ezoec", "EC", "1413", "EC", "[{conductivity 0.1413}]"},
		{"ezoec", "EC", "12880,6955,7.30,1.010", "EC,TDS,S,SG", "[{conductivity 1.288}]"},
		{"ezoec", "EC", "6955", "TDS", "it must output EC"},
		{"ezoec", "EC", "no output", "", "it must output EC"},
		{"ezoec", "EC", "1413,2", "EC", `its reading is "1413,2"`},
		{"ezodo", "D.O.", "8.82", "mg", "[{dissolved_oxygen 8.82}]"},
		{"ezodo", "D.O.", "8.82,97.1", "%,mg", "it must output mg"},
		{"ezodo", "D.O.", "97.1", "%", "it must output mg"},
		{"ezoorp", "ORP", "-209.6", "", "[{orp -209.6}]"},
		{"ezoorp", "ORP", "-209.6,1", "", "its reading is"},
		{"ezortd", "RTD", "25.104", "c", "[{temperature 25.104}]"},
		{"ezortd", "RTD", "298.254", "k", "[{temperature 25.104}]"},
		{"ezortd", "RTD", "77.187", "F", "[{temperature 25.1038889}]"},
		{"ezortd", "RTD", "25.104", "r", "its scale is"},
		{"ezortd", "RTD", "-1023.000", "c", "outside"}, // without a probe
		{"ezoph", "pH", "14.001", "", "outside"},
		{"ezoph", "pH", "nan", "", `its reading is "nan"`},
		{"ezoph", "pH", "7.0\x01", "", "is no text"},
		{"ezoph", "pH", strings.Repeat("7", 60), "", "has no end"},
	} {
		for _, glitch := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				b := sim.New()
				entry, _ := Lookup(c.chip)
				chip := sim.AddEZO(b.AddBus("i2c-1"), c.kind, 0x6A)
				chip.Glitch(glitch)
				var o any = I2C{"i2c-1", 0x6A}
				if entry.Options.Has("temperature") {
					o = EZO{I2C{"i2c-1", 0x6A}, 18.5}
				}
				s, err := entry.Open(b, Config{Chip: c.chip, Options: o})
				if err != nil {
					t.Fatal(err)
				}
				chip.SetReading(c.reading)
				if c.kind != "pH" && c.kind != "ORP" {
					chip.SetOutputs(c.outputs)
				}
				f, err := s.Sense()
				if got := fmt.Sprint(f); err == nil && got != c.want || err != nil && (!errors.Is(err, ErrFault) || !strings.Contains(err.Error(), c.want)) {
					t.Errorf("%s %q: %v, %v, want %s", c.chip, c.reading, f, err, c.want)
				}
			})
		}
	}
}

// Another circuit at the address is named. Another program's temperature, a command that the
// firmware does not have and an answer that never comes are faults.
func TestEZOFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		bus := b.AddBus("i2c-1")
		sim.AddEZO(bus, "EC", 0x63)
		entry, _ := Lookup("ezoph")
		cfg := Config{Chip: "ezoph", Options: EZO{I2C{"i2c-1", 0x63}, 18.5}}
		if s, err := entry.Open(b, cfg); s != nil || !errors.Is(err, ErrFault) || !strings.Contains(err.Error(), "it is an EZO circuit for EC 1.98, not for pH") {
			t.Errorf("%v", err)
		}
		chip := sim.AddEZO(bus, "pH", 0x63)
		s, err := entry.Open(b, cfg)
		if err != nil {
			t.Fatal(err)
		}
		w, _ := b.Bus("i2c-1")
		if err := w.Tx(0x63, []byte("T,20"), nil); err != nil {
			t.Fatal(err)
		}
		if f, err := s.Sense(); !errors.Is(err, ErrFault) || !strings.Contains(err.Error(), "was set to 18.50") {
			t.Errorf("%v, %v", f, err)
		}
		d := s.(*deviceSensor).device.(*ezoDevice)
		d.begin()
		if _, err := d.ask("Z", ezoTakes); !errors.Is(err, ErrFault) || !strings.Contains(err.Error(), "does not know the command") {
			t.Errorf("%v", err)
		}
		chip.FreezeConversion(true)
		began := time.Now()
		if f, err := s.Sense(); !errors.Is(err, ErrFault) || !strings.Contains(err.Error(), "does not come") || time.Since(began) > entry.Worst {
			t.Errorf("%v, %v after %v", f, err, time.Since(began))
		}
	})
}

// Only text that ends is an answer.
func FuzzEZO(f *testing.F) {
	f.Add(text("9.560"))
	f.Add(text("?,O,%,mg"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		if len(answer) == 0 {
			return
		}
		words, err := ezoWords("R", answer)
		if (err == nil) == (words == nil) || err != nil && !errors.Is(err, ErrFault) || err == nil && answer[0] != 1 {
			t.Errorf("% x: %q, %v", answer, words, err)
		}
	})
}
