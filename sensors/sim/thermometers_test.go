package sim

import (
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"
	periph "periph.io/x/devices/v3/tmp102"
)

// word reads a 16-bit register of the chip at 0x48.
func word(t *testing.T, bus i2c.Bus, reg byte) uint16 {
	t.Helper()
	var r [2]byte
	if err := bus.Tx(0x48, []byte{reg}, r[:]); err != nil {
		t.Fatal(err)
	}
	return uint16(r[0])<<8 | uint16(r[1])
}

func send(t *testing.T, bus i2c.Bus, p ...byte) {
	t.Helper()
	if err := bus.Tx(0x48, p, nil); err != nil {
		t.Fatal(err)
	}
}

func TestTMP102Continuous(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New()
		d := b.AddBus("i2c-1").AddTMP102(0x48)
		d.SetTemperature(-25)
		h := open(t, b, "i2c-1")
		if conf := word(t, h, 1); conf != 0x60A0 {
			t.Errorf("configuration %#04x after power-on", conf)
		}
		if v := word(t, h, 0); v != 0 {
			t.Errorf("%#04x before the first conversion, want 0", v)
		}
		<-time.After(tmpTime)
		if v := word(t, h, 0); v != 0xE700 {
			t.Errorf("-25 degrees read %#04x, want 0xE700", v)
		}
		send(t, h, 1, 0x60, 0xB0)
		if v := word(t, h, 0); v != 0x1E70<<3|1 {
			t.Errorf("-25 degrees read %#04x in extended mode", v)
		}
		d.SetTemperature(140)
		if v := word(t, h, 0); v != 140*16<<3|1 {
			t.Errorf("140 degrees read %#04x in extended mode", v)
		}
		send(t, h, 1, 0x60, 0xA0)
		if v := word(t, h, 0); v != 0x7FF0 {
			t.Errorf("140 degrees read %#04x in 12 bits", v)
		}
		send(t, h, 3, 0x12, 0x30)
		if word(t, h, 3) != 0x1230 || word(t, h, 2) != 0x4B00 {
			t.Error("limits are not kept")
		}
	})
}

func TestTMP102OneShot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New()
		d := b.AddBus("i2c-1").AddTMP102(0x48)
		h := open(t, b, "i2c-1")
		<-time.After(tmpTime)
		send(t, h, 1, 0x61, 0xA0)
		d.SetTemperature(80)
		if v := word(t, h, 0); v != 20<<8 {
			t.Errorf("%#04x while shut down, want the 20 degrees of before", v)
		}
		send(t, h, 1, 0xE1, 0xA0)
		if conf := word(t, h, 1); conf&tmpOS != 0 {
			t.Error("OS reads 1 during the conversion")
		}
		<-time.After(tmpTime)
		if conf := word(t, h, 1); conf&tmpOS == 0 {
			t.Error("OS reads 0 after the conversion")
		}
		if v := word(t, h, 0); v != 0x5000 {
			t.Errorf("80 degrees read %#04x", v)
		}
	})
}

// periph's driver reads the temperature that was set.
func TestPeriphReadsTMP102(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New()
		d := b.AddBus("i2c-1").AddTMP102(0x48)
		dev, err := periph.NewI2C(open(t, b, "i2c-1"), 0x48, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, celsius := range []float64{20, 0, -0.0625, -40, 127.9375} {
			d.SetTemperature(celsius)
			<-time.After(time.Second)
			var e physic.Env
			if err := dev.Sense(&e); err != nil {
				t.Fatal(err)
			}
			if got := e.Temperature.Celsius(); got != celsius {
				t.Errorf("%g degrees, want %g", got, celsius)
			}
		}
	})
}

func TestLM75(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New()
		bus := b.AddBus("i2c-1")
		d := bus.AddLM75(0x48, 11)
		h := open(t, b, "i2c-1")
		d.SetTemperature(-25)
		if v := word(t, h, 0); v != 0 {
			t.Errorf("%#04x before the first conversion, want 0", v)
		}
		<-time.After(lmTime)
		if v := word(t, h, 0); v != 0xE700 {
			t.Errorf("-25 degrees read %#04x", v)
		}
		d.SetTemperature(0.125)
		if v := word(t, h, 0); v != 0x0020 {
			t.Errorf("0.125 degrees read %#04x", v)
		}
		send(t, h, 1, 0x01)
		d.SetTemperature(50)
		<-time.After(time.Second)
		if v := word(t, h, 0); v != 0x0020 {
			t.Errorf("%#04x while shut down, want what was before", v)
		}
		send(t, h, 1, 0x00)
		if v := word(t, h, 0); v != 0x0020 {
			t.Errorf("%#04x just awake, want what was before", v)
		}
		<-time.After(lmTime)
		if v := word(t, h, 0); v != 0x3200 {
			t.Errorf("50 degrees read %#04x", v)
		}
		if word(t, h, 3) != 0x5000 || word(t, h, 2) != 0x4B00 {
			t.Error("Tos and Thyst are not 80 and 75 degrees")
		}
		send(t, h, 2, 0x11, 0xFF)
		if v := word(t, h, 2); v != 0x1180 {
			t.Errorf("Thyst %#04x, want nine bits of it", v)
		}
		bus.AddLM75(0x48, 9).SetTemperature(0.3)
		<-time.After(lmTime)
		if v := word(t, h, 0); v != 0x0080 {
			t.Errorf("0.3 degrees read %#04x in nine bits", v)
		}
	})
}
