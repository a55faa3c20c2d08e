package health

import (
	"strings"
	"testing"
)

// Whatever is said of a place speaks of that place's hardware and of no other,
// and no fault that can be at a line or in a zone speaks of I2C there.
func TestHintsFitTheirPlace(t *testing.T) {
	words := map[Place][]string{
		OnBus:  {"gpio", "GPIO", "pin", "thermal"},
		OnLine: {"i2c", "I2C", "bus", "thermal", "chip"},
		InZone: {"i2c", "I2C", "bus", "gpio", "GPIO", "pin", "wir"},
	}
	sensors := []Code{NoAnswer, WrongAnswer, Absent, Denied, LineBusy, ReadFailed}
	for place, foreign := range words {
		for _, code := range sensors {
			if code == LineBusy && place != OnLine {
				continue // only lines are held
			}
			do := Lookup(code).DoAt(place)
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
	for code := range doAt {
		if Lookup(code).Means == "Unregistered fault." {
			t.Errorf("%s is no fault", code)
		}
	}
	if f := Lookup(NetworkDown); f.DoAt(OnBus) != f.Do || f.DoAt("") != f.Do {
		t.Error("what has no place has another hint")
	}
}
