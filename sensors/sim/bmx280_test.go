package sim

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"
	"periph.io/x/devices/v3/bmxx80"

	"fieldpost/sensors"
)

// The worked example of BST-BMP280-DS001 revision 1.23, section 3.12.
func TestDatasheetExample(t *testing.T) {
	fine := sheet.fine(519888)
	if got := fine / 5120; math.Abs(got-25.08) > 0.005 {
		t.Errorf("temperature %g, want 25.08", got)
	}
	if got := sheet.pressure(415148, fine); math.Abs(got-100653.27) > 0.05 {
		t.Errorf("pressure %g, want 100653.27", got)
	}
}

func TestInvert(t *testing.T) {
	up := func(raw int) float64 { return float64(raw)/2 - 10 }
	down := func(raw int) float64 { return 10 - float64(raw)/2 }
	for _, c := range []struct {
		want  float64
		value func(int) float64
		raw   int
	}{
		{-10, up, 0}, {0, up, 20}, {0.24, up, 20}, {0.26, up, 21}, {1e9, up, 255}, {-1e9, up, 0},
		{10, down, 0}, {0, down, 20}, {0.24, down, 20}, {0.26, down, 19}, {1e9, down, 0}, {-1e9, down, 255},
	} {
		if raw := invert(8, c.want, c.value); raw != c.raw {
			t.Errorf("invert to %g: %d, want %d", c.want, raw, c.raw)
		}
	}
}

// periph's driver, which uses integer arithmetic, reads the values that were set.
func TestPeriphReadsWhatIsSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New()
		air := b.AddBus("i2c-1").AddBME280(0x76)
		dev, err := bmxx80.NewI2C(open(t, b, "i2c-1"), 0x76, &bmxx80.DefaultOpts)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct{ celsius, percent, pascal float64 }{
			{25.08, 50, 100653}, {-39.5, 10, 31000}, {84.5, 90, 109000}, {0, 0.5, 101325}, {21.53, 99.5, 98000},
		} {
			air.SetTemperature(c.celsius)
			air.SetHumidity(c.percent)
			air.SetPressure(c.pascal)
			var e physic.Env
			if err := dev.Sense(&e); err != nil {
				t.Fatal(err)
			}
			if got := e.Temperature.Celsius(); math.Abs(got-c.celsius) > 0.011 {
				t.Errorf("temperature %g, want %g", got, c.celsius)
			}
			if got := float64(e.Pressure) / float64(physic.Pascal); math.Abs(got-c.pascal) > 1 {
				t.Errorf("pressure %g, want %g", got, c.pascal)
			}
			if got := float64(e.Humidity) / float64(physic.PercentRH); math.Abs(got-c.percent) > 0.1 {
				t.Errorf("humidity %g, want %g", got, c.percent)
			}
		}
	})
}

// Our driver reads the values that were set to its last digit, also with negative dig_H4
// and dig_H5, whose signs periph's driver drops.
func TestDriverReadsWhatIsSet(t *testing.T) {
	chip, ok := sensors.Lookup("bme280")
	if !ok {
		t.Fatal("no bme280 in the catalog")
	}
	for _, h := range []struct{ h4, h5 int16 }{{313, 50}, {313, -20}, {-25, 50}, {-1, -1}} {
		synctest.Test(t, func(t *testing.T) {
			b := New()
			air := b.AddBus("i2c-1").AddBME280(0x77)
			air.update(func() { air.trim.H4, air.trim.H5 = h.h4, h.h5 })
			air.PowerCycle()
			s, err := chip.Open(b, sensors.Config{Chip: "bme280", Options: sensors.I2C{Bus: "i2c-1", Address: 0x77}})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			for _, c := range []struct{ celsius, percent, pascal float64 }{
				{21.53, 48.2, 101325}, {-12.25, 88.88, 99000}, {40, 20, 30000},
			} {
				air.SetTemperature(c.celsius)
				air.SetHumidity(c.percent)
				air.SetPressure(c.pascal)
				fields, err := s.Sense()
				if err != nil {
					t.Fatal(err)
				}
				for i, want := range []float64{c.celsius, c.percent, c.pascal} {
					got := fields[i].Value.(float64)
					if math.Abs(got-want) > []float64{0.011, 0.011, 1}[i] {
						t.Errorf("dig_H4 %d, dig_H5 %d: %s %g, want %g", h.h4, h.h5, fields[i].Name, got, want)
					}
				}
			}
		})
	}
}

func register(t *testing.T, bus i2c.Bus, reg byte, n int) []byte {
	t.Helper()
	r := make([]byte, n)
	if err := bus.Tx(0x76, []byte{reg}, r); err != nil {
		t.Fatal(err)
	}
	return r
}

func poke(t *testing.T, bus i2c.Bus, pairs ...byte) {
	t.Helper()
	if err := bus.Tx(0x76, pairs, nil); err != nil {
		t.Fatal(err)
	}
}

func TestForcedMode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New()
		air := b.AddBus("i2c-1").AddBME280(0x76)
		h := open(t, b, "i2c-1")
		nothing := []byte{0x80, 0, 0, 0x80, 0, 0, 0x80, 0}
		if got := register(t, h, regData, 8); string(got) != string(nothing) {
			t.Errorf("data after power-on % x", got)
		}
		poke(t, h, regCtrlMeas, 1<<5|1<<2|1) // humidity is off
		if s := register(t, h, regStatus, 1)[0]; s != measuring {
			t.Errorf("status %#x while measuring", s)
		}
		<-time.After(5500 * time.Microsecond) // 1 + 2 + 2 + 0.5 ms
		if s := register(t, h, regStatus, 1)[0]; s != 0 {
			t.Errorf("status %#x after measuring", s)
		}
		if v := register(t, h, regCtrlMeas, 1)[0]; v&3 != 0 {
			t.Errorf("mode %d after a forced measurement, want sleep", v&3)
		}
		first := register(t, h, regData, 8)
		if string(first[:6]) == string(nothing[:6]) || string(first[6:]) != "\x80\x00" {
			t.Errorf("data % x, want all but humidity", first)
		}
		air.SetTemperature(30)
		if got := register(t, h, regData, 8); string(got) != string(first) {
			t.Error("a sleeping chip has measured")
		}
		poke(t, h, regCtrlHum, 1) // takes effect with the next write to ctrl_meas
		poke(t, h, regCtrlMeas, 1<<5|1<<2|1)
		<-time.After(8 * time.Millisecond)
		if got := register(t, h, regData, 8); string(got[6:]) == "\x80\x00" || string(got[3:6]) == string(first[3:6]) {
			t.Errorf("data % x after a second measurement", got)
		}
	})
}

// Without the filter the number of bits depends on the oversampling, and 0x80000 is a
// possible value. With the filter the chip gives all twenty bits.
func TestSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New()
		air := b.AddBus("i2c-1").AddBME280(0x76)
		h := open(t, b, "i2c-1")
		for osrs := byte(1); osrs <= 5; osrs++ {
			for _, config := range []byte{0, 2 << 2} {
				step := 1 << (5 - osrs)
				if config != 0 {
					step = 1
				}
				odd := 0
				poke(t, h, regConfig, config)
				for i := range 40 {
					air.SetTemperature(20 + float64(i)*0.0007)
					air.SetPressure(100000 + float64(i)*0.11)
					poke(t, h, regCtrlMeas, osrs<<5|osrs<<2|1)
					<-time.After(200 * time.Millisecond)
					d := register(t, h, regData, 6)
					press := int(d[0])<<12 | int(d[1])<<4 | int(d[2])>>4
					temp := int(d[3])<<12 | int(d[4])<<4 | int(d[5])>>4
					if temp%step != 0 || press%step != 0 {
						t.Errorf("x%d, config %#x: %#x and %#x are no steps of %d", 1<<(osrs-1), config, temp, press, step)
					}
					if temp%(2*step) != 0 || press%(2*step) != 0 {
						odd++
					}
				}
				if odd == 0 {
					t.Errorf("x%d, config %#x: only steps of %d", 1<<(osrs-1), config, 2*step)
				}
			}
		}
	})
}

func TestNormalMode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New()
		air := b.AddBus("i2c-1").AddBMP280(0x76)
		h := open(t, b, "i2c-1")
		poke(t, h, regConfig, 5<<5, regCtrlHum, 1, regCtrlMeas, 1<<5|1<<2|3)
		<-time.After(time.Second)
		first := register(t, h, regData, 6)
		air.SetTemperature(30)
		if got := register(t, h, regData, 6); string(got) == string(first) {
			t.Error("normal mode does not follow the air")
		}
		if v := register(t, h, regCtrlHum, 1)[0]; v != 0 {
			t.Errorf("a BMP280 has ctrl_hum %#x", v)
		}
		if v := register(t, h, regID, 1)[0]; v != idBMP280 {
			t.Errorf("id %#x", v)
		}
	})
}

// A chip that replaces another one has another calibration, no settings, and the same
// air.
func TestExchange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New()
		air := b.AddBus("i2c-1").AddBME280(0x76)
		air.SetTemperature(31)
		h := open(t, b, "i2c-1")
		poke(t, h, regConfig, 0xA0)
		calib := register(t, h, 0x88, 26)
		air.Exchange()
		if v := register(t, h, regConfig, 1)[0]; v != 0 {
			t.Errorf("config %#x after the exchange", v)
		}
		if got := register(t, h, 0x88, 26); string(got) == string(calib) {
			t.Error("the other chip has the same calibration")
		}
		poke(t, h, regCtrlMeas, 5<<5|1)
		<-time.After(200 * time.Millisecond)
		d := register(t, h, regData, 6)
		if got := air.trim.fine(int(d[3])<<12|int(d[4])<<4|int(d[5])>>4) / 5120; math.Abs(got-31) > 0.001 {
			t.Errorf("%g degrees, want 31", got)
		}
	})
}

func TestSoftReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New()
		b.AddBus("i2c-1").AddBME280(0x76)
		h := open(t, b, "i2c-1")
		poke(t, h, regConfig, 0xA0)
		poke(t, h, regReset, 0x01)
		if v := register(t, h, regConfig, 1)[0]; v != 0xA0 {
			t.Errorf("config %#x after a write of nothing to reset", v)
		}
		poke(t, h, regReset, magic)
		if v := register(t, h, regConfig, 1)[0]; v != 0 {
			t.Errorf("config %#x after the reset", v)
		}
	})
}
