package health

import (
	"slices"
	"strings"
	"testing"
)

// Whatever is said of a place speaks of that place's hardware and of no other,
// and no fault that can be at a line or in a zone speaks of I2C there.
func TestHintsFitTheirPlace(t *testing.T) {
	words := map[Place][]string{
		OnBus:    {"gpio", "GPIO", "pin", "thermal"},
		OnLine:   {"i2c", "I2C", "bus", "thermal", "chip"},
		InZone:   {"i2c", "I2C", "bus", "gpio", "GPIO", "pin", "wir"},
		OnSPI:    {"i2c", "I2C", "gpio", "GPIO", "pin", "thermal"},
		OnPort:   {"i2c", "I2C", "spidev", "gpio", "GPIO", "pin", "thermal"},
		OfKernel: {"gpio", "GPIO", "pin", "thermal"},
	}
	sensors := []Code{NoAnswer, WrongAnswer, Absent, Denied, LineBusy, ReadFailed}
	for place, foreign := range words {
		for _, code := range sensors {
			if code == LineBusy && place != OnLine {
				continue // only lines are held
			}
			do := Lookup(code).CureOf(place)
			if do == "" {
				t.Errorf("%s at %s: nothing to do", code, place)
			}
			for _, w := range foreign {
				if strings.Contains(do, w) {
					t.Errorf("%s at %s speaks of %q: %s", code, place, w, do)
				}
			}
		}
	}
	for _, code := range sensors { // of a place that nobody knows
		if do := Lookup(code).Cure; code != LineBusy && slices.ContainsFunc([]string{"i2c", "I2C", "bus", "gpio", "GPIO", "pin", "thermal"}, func(w string) bool { return strings.Contains(do, w) }) {
			t.Errorf("%s speaks of one kind of hardware: %s", code, do)
		}
	}
	if f := Lookup(NetworkDown); f.CureOf(OnBus) != f.Cure || f.CureOf("") != f.Cure {
		t.Error("what has no place has another hint")
	}
}
