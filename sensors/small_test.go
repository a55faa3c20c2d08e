package sensors

import (
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"

	"periph.io/x/conn/v3/i2c/i2ctest"

	"fieldpost/sensors/sim"
)

// word16 is a read of a register.
func word16(reg byte, v uint16) i2ctest.IO {
	return i2ctest.IO{W: []byte{reg}, R: []byte{byte(v >> 8), byte(v)}}
}

func set16(reg byte, v uint16) i2ctest.IO { return out(reg, byte(v>>8), byte(v)) }

// SBAS444D, table 9: full scale, and its negative; periph's recording of an ADS1015,
// 0xFF50, is -11 steps of 3 mV.
func TestADSVolts(t *testing.T) {
	for _, c := range []struct {
		full, scale float64
		bits        int
		code        uint16
		want        float64
	}{
		{4.096, 1, 16, 0x0001, 0.000125}, {4.096, 1, 16, 0xFFFF, -0.000125}, {2.048, 1, 16, 0x4000, 1.024}, {6.144, 11, 16, 0x4000, 33.792},
		{6.144, 1, 12, 0xFF50, -0.033}, {0.256, 1, 16, 0x7FFE, 0.255984}, {2.048, 1, 12, 0x7FE0, 2.046},
	} {
		d, _ := newADS(nil, ADS1115{Range: c.full, Scale: c.scale, Channels: 1}, c.bits)
		if v, err := d.(*adsDevice).volts(c.code); err != nil || math.Abs(v-c.want) > 1e-9 {
			t.Errorf("%+v: %v, %v", c, v, err)
		}
	}
	for bits, codes := range map[int][]uint16{16: {0x7FFF, 0x8000}, 12: {0x7FF0, 0x8000}} {
		d, _ := newADS(nil, ADS1115{Range: 4.096, Scale: 1}, bits)
		for _, code := range codes {
			if v, err := d.(*adsDevice).volts(code); !errors.Is(err, ErrFault) || !strings.Contains(err.Error(), "range of 4.096 V") {
				t.Errorf("%d bits, %#04x: %v, %v", bits, code, v, err)
			}
		}
	}
}

func TestADSTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := playback(set16(1, 0x4387), word16(1, 0xC387),
			set16(1, 0xC387), word16(1, 0x4387), word16(1, 0xC387), word16(0, 0x2000), word16(1, 0xC387),
			set16(1, 0xF387), word16(1, 0xF387), word16(0, 0xE000), word16(1, 0xF387))
		s, err := ads1115.Open(p, Config{Chip: "ads1115", Options: ADS1115{I2C{"i2c-1", 0x48}, 0b1001, 4.096, 1}})
		if err != nil {
			t.Fatal(err)
		}
		if f, err := s.Sense(); err != nil || f[0] != (Field{"voltage_0", 1.024}) || f[1] != (Field{"voltage_3", -1.024}) {
			t.Errorf("%v, %v", f, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// Each input has its own voltage, never that of the previous input.
func TestADSInputs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		for i, add := range []func(*sim.Bus, uint16) *sim.ADS1115{sim.AddADS1115, sim.AddADS1015} {
			chip, c := add(b.AddBus("i2c-1"), 0x48), []Chip{ads1115, ads1015}[i]
			for n, v := range []float64{0, 3.3, 1.5, -0.1} {
				chip.SetInput(n, v)
			}
			s, err := c.Open(b, Config{Chip: c.Name, Options: ADS1115{I2C{"i2c-1", 0x48}, 0x0F, 4.096, 2}})
			if err != nil {
				t.Fatal(err)
			}
			f, err := s.Sense()
			for n, want := range []float64{0, 6.6, 3, -0.2} {
				if err != nil || math.Abs(f[n].Value.(float64)-want) > 0.003 {
					t.Errorf("%s: %v, %v", c.Name, f, err)
				}
			}
			chip.FreezeConversion(true)
			if f, err := s.Sense(); !errors.Is(err, ErrFault) || f != nil {
				t.Errorf("%s, frozen: %v, %v", c.Name, f, err)
			}
			chip.FreezeConversion(false)
			chip.SetInput(2, 5)
			if f, err := s.Sense(); !errors.Is(err, ErrFault) || f != nil || !strings.Contains(err.Error(), "input 2") {
				t.Errorf("%s, too much: %v, %v", c.Name, f, err)
			}
		}
	})
}

// SNOSD82D, table 7-1.
func TestTMP117Traffic(t *testing.T) {
	for reg, celsius := range map[uint16]float64{0x0C80: 25, 0xF380: -25, 0x0001: 0.008, 0x0000: 0, 0x3200: 100} {
		openReadClose(t, tmp117, 0x49, []float64{celsius},
			word16(0x0F, 0x1117), word16(1, 0x0220), set16(1, 0x0420),
			set16(1, 0x0C20), word16(1, 0x0C20), word16(1, 0x2420), word16(0, reg), set16(1, 0x0420))
	}
}

func TestTMP117NotYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		chip := sim.AddTMP117(b.AddBus("i2c-1"), 0x48)
		s, err := tmp117.Open(b, Config{Chip: "tmp117", Options: I2C{Bus: "i2c-1"}})
		if err != nil {
			t.Fatal(err)
		}
		chip.SetTemperature(-39.5)
		if f, err := s.Sense(); err != nil || f[0].Value != -39.5 {
			t.Errorf("%v, %v", f, err)
		}
		chip.FreezeConversion(true)
		if f, err := s.Sense(); !errors.Is(err, ErrFault) || f != nil {
			t.Errorf("frozen: %v, %v", f, err)
		}
		b.AddBus("i2c-1").AddTMP102(0x48)
		if _, err := tmp117.Open(b, Config{Chip: "tmp117", Options: I2C{Bus: "i2c-1"}}); !errors.Is(err, ErrFault) {
			t.Errorf("a TMP102 was taken for a TMP117: %v", err)
		}
	})
}

// DS25095A: the registers of periph's recording, 10 and -10 degrees.
func TestMCP9808Traffic(t *testing.T) {
	for reg, celsius := range map[uint16]float64{0x00A0: 10, 0x1F60: -10, 0xC1E4: 30.25, 0xD000: -256 + 0} {
		if celsius == -256 {
			if got := mcp9808Celsius(reg); got != -256 {
				t.Errorf("%#04x: %v", reg, got)
			}
			continue
		}
		openReadClose(t, mcp9808, 0x18, []float64{celsius},
			word16(6, 0x54), word16(7, 0x0400), word16(1, 0), set16(1, 0x0200),
			word16(5, reg), word16(1, 0x0200), set16(1, 0x0300))
	}
}

// 0x3A3B is 24.99 degrees and has the PEC 0xCE.
func TestMLX90614(t *testing.T) {
	if v, err := mlxCelsius(0x5A, 7, []byte{0x3B, 0x3A, 0xCE}); err != nil || v != 24.99 {
		t.Errorf("%v, %v, want 24.99", v, err)
	}
	for _, b := range [][]byte{{0x3B, 0x3A, 0xCF}, {0, 0, 0}, {0xFF, 0xFF, 0xFF}} {
		if v, err := mlxCelsius(0x5A, 7, b); !errors.Is(err, ErrFault) {
			t.Errorf("% x: %v, %v", b, v, err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		chip := sim.AddMLX90614(b.AddBus("i2c-1"), 0x5A)
		s, err := mlx90614.Open(b, Config{Chip: "mlx90614", Options: I2C{Bus: "i2c-1"}})
		if err != nil {
			t.Fatal(err)
		}
		chip.SetTemperatures(-12.01, 8.59)
		if f, err := s.Sense(); err != nil || f[0].Value != -12.01 || f[1].Value != 8.59 {
			t.Errorf("%v, %v", f, err)
		}
		chip.Fail(true)
		if f, err := s.Sense(); !errors.Is(err, ErrFault) || f != nil {
			t.Errorf("failed: %v, %v", f, err)
		}
	})
}

// The technical note's example, 0x83 0x90 is 28067 lx; darkness is a value, light beyond
// the range is a fault.
func TestBH1750(t *testing.T) {
	measure := []i2ctest.IO{out(1), out(7), out(0x42), out(0x65), out(0x20)}
	ops := append([]i2ctest.IO{out(1)}, measure...)
	openReadClose(t, bh1750, 0x23, []float64{28066.7}, append(ops, in(0x83, 0x90), out(0))...)
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		chip := sim.AddBH1750(b.AddBus("i2c-1"), 0x23)
		s, err := bh1750.Open(b, Config{Chip: "bh1750", Options: I2C{Bus: "i2c-1"}})
		if err != nil {
			t.Fatal(err)
		}
		chip.SetLight(0)
		if f, err := s.Sense(); err != nil || f[0].Value != 0.0 {
			t.Errorf("dark: %v, %v", f, err)
		}
		chip.SetLight(1e5)
		if f, err := s.Sense(); !errors.Is(err, ErrFault) || f != nil {
			t.Errorf("too bright: %v, %v", f, err)
		}
	})
}
