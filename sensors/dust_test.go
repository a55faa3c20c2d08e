package sensors

import (
	"bytes"
	hexdump "encoding/hex"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"fieldpost/sensors/sim"
)

// A PMS5003's frame with 3, 5 and 7 µg/m³ in the atmosphere (4, 6 and 8 in factory air),
// and the protocol's example of an SDS011, PM2.5 123.6 and PM10 141.6 µg/m³.
func TestDustFrames(t *testing.T) {
	pms, _ := hexdump.DecodeString("424d001c000400060008000300050007024b00b8002200060002000097000292")
	sds := []byte{0xAA, 0xC0, 0xD4, 0x04, 0x88, 0x05, 0xA1, 0x60, 0x66, 0xAB}
	for _, c := range []struct {
		frame   []byte
		convert func([]byte) ([]float64, error)
		want    string
	}{{pms, pmsValues, "[3 5 7]"}, {sds, sdsValues, "[123.6 141.6]"}} {
		if v, err := c.convert(c.frame); err != nil || fmt.Sprint(v) != c.want {
			t.Errorf("%v, %v, want %s", v, err, c.want)
		}
		for i := range c.frame {
			bad := bytes.Clone(c.frame)
			bad[i] ^= 0x10
			if v, err := c.convert(bad); !errors.Is(err, ErrFault) {
				t.Errorf("% x: %v, %v, want a fault", bad, v, err)
			}
		}
	}
	for command, want := range map[byte]string{pmsPassive: "424de100000170", pmsRead: "424de200000171"} {
		if got := hexdump.EncodeToString(pmsCommand(command, 0)); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if got := hexdump.EncodeToString(sdsCommand([3]byte{4, 0, 0})); got != "aab404000000000000000000000000ffff02ab" {
		t.Errorf("question %s", got)
	}
	if got := hexdump.EncodeToString(sdsCommand([3]byte{6, 1, 1})); got != "aab406010100000000000000000000ffff06ab" {
		t.Errorf("wake %s", got)
	}
}

func TestDustReads(t *testing.T) {
	for name, c := range map[string]struct {
		add  func(*sim.Board, string) *sim.Dust
		want string
	}{
		"pms5003": {(*sim.Board).AddPMS5003, "[{pm1 12} {pm2_5 34} {pm10 56}]"},
		"sds011":  {(*sim.Board).AddSDS011, "[{pm2_5 34} {pm10 56}]"},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := sim.New()
			chip := c.add(b, "ttyS0")
			entry, _ := Lookup(name)
			cfg := Config{Chip: name, Options: Serial{"ttyS0"}}
			s, err := entry.Open(b, cfg)
			if err != nil {
				t.Fatal(err)
			}
			chip.SetDust(12, 34, 56)
			for range 2 {
				if f, err := s.Sense(); err != nil || fmt.Sprint(f) != c.want {
					t.Errorf("%s: %v, %v, want %s", name, f, err, c.want)
				}
			}
			chip.PowerCycle() // it sends frames by itself now
			for range 3 {
				if f, err := s.Sense(); err == nil && fmt.Sprint(f) != c.want {
					t.Errorf("%s after a power-cycle: %v", name, f)
				}
			}
			for fault, want := range map[sim.Fault]error{sim.NACK: ErrSilent, sim.Ones: ErrFault, sim.Zeros: ErrFault, sim.Noise: ErrFault} {
				chip.Fault(fault)
				if f, err := s.Sense(); !errors.Is(err, want) || f != nil {
					t.Errorf("%s, %v: %v, %v", name, fault, f, err)
				}
				if s, err := entry.Open(b, cfg); err == nil || s != nil {
					t.Errorf("%s, %v: was opened", name, fault)
				}
			}
			chip.Fault(sim.Healthy)
			if s, err = entry.Open(b, cfg); err != nil {
				t.Fatal(err)
			}
			if f, err := s.Sense(); err != nil || fmt.Sprint(f) != c.want {
				t.Errorf("%s well again: %v, %v", name, f, err)
			}
		})
	}
}

func FuzzDust(f *testing.F) {
	f.Add([]byte{0xAA, 0xC0, 0xD4, 0x04, 0x88, 0x05, 0xA1, 0x60, 0x66, 0xAB})
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) == pmsLength {
			if _, err := pmsValues(p); err != nil && !errors.Is(err, ErrFault) {
				t.Errorf("% x: %v", p, err)
			}
		}
		if len(p) == sdsLength {
			if _, err := sdsValues(p); err != nil && !errors.Is(err, ErrFault) {
				t.Errorf("% x: %v", p, err)
			}
		}
	})
}
