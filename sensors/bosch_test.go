package sensors

import (
	hexdump "encoding/hex"
	"errors"
	"math"
	"testing"
	"testing/synctest"

	"fieldpost/sensors/sim"
)

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hexdump.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The data sheet's figure 4: UT 27898 and UP 23843 at oversampling 0 are 15.0 degrees
// and 69964 Pa.
func TestBMP180Values(t *testing.T) {
	trim, err := newBMP180Trim(bmp180Example)
	if err != nil {
		t.Fatal(err)
	}
	if celsius, pascal, err := trim.values(27898, 23843, 0); err != nil || celsius != 15 || pascal != 69964 {
		t.Errorf("%v, %v, %v, want 15 and 69964", celsius, pascal, err)
	}
	for _, up := range []int32{0, -1} {
		if c, p, err := trim.values(27898, up, 0); !errors.Is(err, ErrFault) {
			t.Errorf("%d: %v, %v, %v", up, c, p, err)
		}
	}
	if _, err := newBMP180Trim(make([]byte, 22)); !errors.Is(err, ErrFault) {
		t.Error("a calibration of zeros was taken")
	}
}

// bmp180Example is AC1 408, AC2 -72, AC3 -14383, AC4 32741, AC5 32757, AC6 23153, B1
// 6190, B2 4, MB -32768, MC -8711, MD 2868.
var bmp180Example = []byte{0x01, 0x98, 0xFF, 0xB8, 0xC7, 0xD1, 0x7F, 0xE5, 0x7F, 0xF5, 0x5A, 0x71, 0x18, 0x2E, 0x00, 0x04, 0x80, 0x00, 0xDD, 0xF9, 0x0B, 0x34}

// Three results of Bosch's own code (BMP3_SensorAPI) with one calibration.
func TestBMP388Values(t *testing.T) {
	trim, err := newBMP3Trim(unhex(t, "336c284af61fff5af82300da61f875f3f6803f09c4"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ rawP, rawT, celsius, pascal float64 }{
		{6500000, 8400000, 23.0835, 105231.16}, {7000000, 8700000, 28.3565, 98436.73}, {6000000, 8000000, 16.0430, 111388.74},
	} {
		if celsius, pascal := trim.compensate(c.rawT, c.rawP); math.Abs(celsius-c.celsius) > 1e-4 || math.Abs(pascal-c.pascal) > 0.006 {
			t.Errorf("%v, %v: %v and %v, want %v and %v", c.rawT, c.rawP, celsius, pascal, c.celsius, c.pascal)
		}
	}
}

// One result of Bosch's own code (BME68x_SensorAPI), and its heater's registers.
func TestBME680Values(t *testing.T) {
	trim, err := newBME680Trim(unhex(t, "a46503f07d8e5fd75800d01dd4ff251e00005bf71af51e"+"3fe72e002d14789c336665dbe212"+"1f00150013"))
	if err != nil {
		t.Fatal(err)
	}
	if trim.t1 != 26163 || trim.t2 != 26020 || trim.t3 != 3 || trim.p1 != 36477 || trim.p2 != -10401 || trim.h1 != 743 || trim.h2 != 1022 || trim.gas.g1 != -30 || trim.gas.g2 != -9371 || trim.gas.g3 != 18 {
		t.Errorf("calibration %+v", trim)
	}
	fine := trim.fine(0x78F20)
	for _, c := range []struct{ got, want, within float64 }{
		{fine / finePerDegree, 23.8203, 1e-4}, {trim.pressure(0x5A3C8, fine), 95129.0, 0.1}, {trim.humidity(0x5A10, fine/finePerDegree), 60.4481, 1e-4},
		{trim.gasLow(512, 4), 499500.4, 0.1}, {float64(trim.heat(320, 25)), 0x7A, 0}, {float64(bme680GasWait(150e6)), 0x65, 0}, {bme688Gas(512, 0), 64e6, 0},
	} {
		if math.Abs(c.got-c.want) > c.within {
			t.Errorf("%v, want %v", c.got, c.want)
		}
	}
}

// A measurement that never ends is a fault, and so is another chip at the address.
func TestBoschFaults(t *testing.T) {
	chips := map[string]func(*sim.Bus) *sim.Bosch{
		"bmp180": sim.AddBMP180,
		"bmp388": func(b *sim.Bus) *sim.Bosch { return sim.AddBMP388(b, 0x77) }, "bmp390": func(b *sim.Bus) *sim.Bosch { return sim.AddBMP390(b, 0x77) },
		"bme680": func(b *sim.Bus) *sim.Bosch { return sim.AddBME680(b, 0x77) },
	}
	for is, add := range chips {
		for name := range chips {
			synctest.Test(t, func(t *testing.T) {
				b := sim.New()
				chip := add(b.AddBus("i2c-1"))
				c, _ := Lookup(name)
				cfg := Config{Chip: name, Options: I2C{"i2c-1", 0x77}}
				if name == "bme680" {
					cfg.Options = BME680{I2C{"i2c-1", 0x77}, true}
				}
				s, err := c.Open(b, cfg)
				if is != name {
					if !errors.Is(err, ErrFault) {
						t.Errorf("a %s taken for a %s: %v", is, name, err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				chip.FreezeConversion(true)
				if f, err := s.Sense(); !errors.Is(err, ErrFault) && is != "bmp180" || f != nil && is != "bmp180" {
					t.Errorf("%s, frozen: %v, %v", is, f, err)
				}
			})
		}
	}
}

// Both variants, with gas and without. The resistance is left out while the heater is
// cold.
func TestBME680Gas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		for variant, add := range map[string]func(*sim.Bus, uint16) *sim.Bosch{"680": sim.AddBME680, "688": sim.AddBME688} {
			chip := add(b.AddBus("i2c-1"), 0x76)
			open := func(gas bool) Sensor {
				s, err := bme680.Open(b, Config{Chip: "bme680", Options: BME680{I2C{"i2c-1", 0x76}, gas}})
				if err != nil {
					t.Fatal(err)
				}
				return s
			}
			want := map[string]float64{"680": 499500.5, "688": 4e6}[variant]
			if f, err := open(true).Sense(); err != nil || len(f) != 4 || math.Abs(f[3].Value.(float64)-want) > 1 {
				t.Errorf("%s: %v, %v", variant, f, err)
			}
			if f, err := open(false).Sense(); err != nil || len(f) != 3 {
				t.Errorf("%s without gas: %v, %v", variant, f, err)
			}
			chip.SetCold(true)
			if f, err := open(true).Sense(); err != nil || len(f) != 3 || f[2].Name != "pressure" {
				t.Errorf("%s, cold: %v, %v", variant, f, err)
			}
		}
	})
}
