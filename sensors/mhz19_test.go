package sensors

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"fieldpost/sensors/sim"
)

func TestMHZ19Reads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		chip := b.AddMHZ19("ttyS0")
		s, err := mhz19.Open(b, Config{Chip: "mhz19", Options: Serial{"/dev/ttyS0"}})
		if err != nil {
			t.Fatal(err)
		}
		for _, ppm := range []int{0, 420, 608, 5000, 10000} {
			chip.SetCO2(ppm)
			chip.Say(0xFF, 0x86, 1, 2, 3) // bytes from before the question are not its answer
			if f, err := s.Sense(); err != nil || f[0] != (Field{"co2", float64(ppm)}) {
				t.Errorf("%d ppm: %v, %v", ppm, f, err)
			}
		}
		chip.SetCO2(10001)
		if f, err := s.Sense(); !errors.Is(err, ErrFault) || f != nil {
			t.Errorf("beyond its range: %v, %v", f, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// The command of the manual, and an answer with its checksum.
func TestMHZ19Frames(t *testing.T) {
	question := []byte{0xFF, 1, 0x86, 0, 0, 0, 0, 0, 0x79}
	if got := mhzSum(question); got != 0x79 {
		t.Errorf("checksum %#02x, want 0x79", got)
	}
	answer := []byte{0xFF, 0x86, 0x02, 0x60, 0x47, 0, 0, 0, 0xD1}
	if ppm, err := mhz19PPM(answer); ppm != 608 || err != nil {
		t.Errorf("% x: %v, %v, want 608", answer, ppm, err)
	}
	for i := range answer {
		bad := bytes.Clone(answer)
		bad[i] ^= 0x10
		if ppm, err := mhz19PPM(bad); !errors.Is(err, ErrFault) {
			t.Errorf("% x: %v, %v, want a fault", bad, ppm, err)
		}
	}
}

func TestMHZ19Faults(t *testing.T) {
	for _, c := range []struct {
		fault sim.Fault
		is    error
		want  string
	}{
		{sim.NACK, ErrSilent, "nothing answers on ttyS0 within 500ms: the chip is not there"},
		{sim.Ones, ErrFault, "is no answer"}, {sim.Zeros, ErrFault, "is no answer"}, {sim.Noise, ErrFault, "on ttyS0"},
		{sim.EIO, nil, "input/output error"},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := sim.New()
			chip := b.AddMHZ19("ttyS0")
			s, err := mhz19.Open(b, Config{Chip: "mhz19", Options: Serial{"ttyS0"}})
			if err != nil {
				t.Fatal(err)
			}
			chip.Fault(c.fault)
			f, err := s.Sense()
			if f != nil || err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v: %v, %v, want %q", c.fault, f, err, c.want)
			}
			if s, err := mhz19.Open(b, Config{Chip: "mhz19", Options: Serial{"ttyS0"}}); err == nil || s != nil {
				t.Errorf("%v: was opened", c.fault)
			}
			chip.Fault(sim.Healthy)
			if f, err := s.Sense(); err != nil || f[0].Value != 420.0 {
				t.Errorf("well again: %v, %v", f, err)
			}
		})
	}
}

// An incomplete answer is a fault that shows what came.
func TestMHZ19Short(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		chip := b.AddMHZ19("ttyS0")
		w, err := dialSerial(b, "mhz19", mhzPort(Config{Options: Serial{"ttyS0"}}))
		if err != nil {
			t.Fatal(err)
		}
		chip.SetCO2(608)
		_, err = w.ask([]byte{0xFF, 1, 0x86, 0, 0, 0, 0, 0, 0x79}, 10, mhzWithin)
		if err := w.wrap("read", err); !errors.Is(err, ErrFault) || !strings.Contains(err.Error(), "only 9 of 10 bytes") {
			t.Errorf("short: %v", err)
		}
	})
}

func TestSerialNames(t *testing.T) {
	for s, want := range map[string]string{
		"ttyAMA0": "", "ttyUSB12": "", "/dev/serial0": "", "/dev/serial/by-id/usb-1a86": "", "/dev/ttyS0": `want the port's name: "ttyS0"`,
		"serial0": "want the name", "": "want the name", "/dev/": "want the name", "/dev/../x": "want the name", "i2c-1": "want the name", "COM3": "want the name",
	} {
		if got := serialName(s); !strings.HasPrefix(got, want) || (got == "") != (want == "") {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
}

// Only frames with the answer's form and checksum are values.
func FuzzMHZ19(f *testing.F) {
	f.Add([]byte{0xFF, 0x86, 0x02, 0x60, 0x47, 0, 0, 0, 0xD1})
	f.Fuzz(func(t *testing.T, a []byte) {
		if len(a) != mhzLength {
			return
		}
		ppm, err := mhz19PPM(a)
		if err != nil && !errors.Is(err, ErrFault) || err == nil && (a[0] != 0xFF || ppm != float64(uint16(a[2])<<8|uint16(a[3]))) {
			t.Errorf("% x: %v, %v", a, ppm, err)
		}
	})
}
