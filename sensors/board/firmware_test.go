package board

import "testing"

func TestPowerOn(t *testing.T) {
	for _, c := range []struct {
		label  string
		offset int
		c      OutputConfig
		want   string // "" where the firmware does not set it
	}{
		{"pinctrl-bcm2711", 27, OutputConfig{}, "gpio=27=op,dl"},
		{"pinctrl-bcm2711", 27, OutputConfig{Active: true}, "gpio=27=op,dh"},
		{"pinctrl-bcm2835", 2, OutputConfig{ActiveLow: true}, "gpio=2=op,dh"},
		{"pinctrl-rp1", 21, OutputConfig{ActiveLow: true, Active: true}, "gpio=21=op,dl"},
		{"pinctrl-rp1", 21, OutputConfig{Drive: PushPull, Active: true}, "gpio=21=op,dh"},
		{"pinctrl-bcm2711", 5, OutputConfig{Drive: OpenDrain}, "gpio=5=op,dl"},
		{"pinctrl-bcm2711", 5, OutputConfig{Drive: OpenDrain, Active: true}, "gpio=5=ip,pn"},
		{"pinctrl-bcm2711", 5, OutputConfig{Drive: OpenDrain, ActiveLow: true}, "gpio=5=ip,pn"},
		{"pinctrl-bcm2711", 5, OutputConfig{Drive: OpenSource}, "gpio=5=ip,pn"},
		{"pinctrl-bcm2711", 5, OutputConfig{Drive: OpenSource, Active: true}, "gpio=5=op,dh"},
		{"pinctrl-bcm2711", 1, OutputConfig{}, ""},  // a HAT's EEPROM
		{"pinctrl-bcm2711", 42, OutputConfig{}, ""}, // not on the header: the Pi 4's LED
		{"raspberrypi-exp-gpio", 4, OutputConfig{}, ""},
		{"fieldpost-sim", 27, OutputConfig{}, ""},
	} {
		got, ok := PowerOn(LineID{Label: c.label, Offset: c.offset}, c.c)
		if got != c.want || ok != (c.want != "") {
			t.Errorf("%s:%d %+v: %q, %v; want %q", c.label, c.offset, c.c, got, ok, c.want)
		}
	}
}
