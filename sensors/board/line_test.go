package board

import (
	"strings"
	"testing"
)

func TestParseLine(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Line
	}{
		{"GPIO17", Line{GPIO: 17, Name: "GPIO17"}},
		{"GPIO0", Line{GPIO: 0, Name: "GPIO0"}},
		{"GPIO57", Line{GPIO: 57, Name: "GPIO57"}},
		{"17", Line{GPIO: 17}},
		{"0", Line{GPIO: 0}},
		{"P1_11", Line{GPIO: 17}},
		{"P1_3", Line{GPIO: 2}},
		{"P1_27", Line{GPIO: 0}},
		{"P1_40", Line{GPIO: 21}},
		{"PIN_LED", Line{GPIO: -1, Name: "PIN_LED"}},
		{"gpio17", Line{GPIO: -1, Name: "gpio17"}},
		{"GPIO017", Line{GPIO: -1, Name: "GPIO017"}},
		{"GPIO100", Line{GPIO: -1, Name: "GPIO100"}},
		{"P8_07 [gpmc]", Line{GPIO: -1, Name: "P8_07 [gpmc]"}},
		{"gpiochip0:17", Line{GPIO: -1, Chip: "gpiochip0", Offset: 17}},
		{"pinctrl-rp1:0", Line{GPIO: -1, Chip: "pinctrl-rp1", Offset: 0}},
		{"fpga:bank1:3", Line{GPIO: -1, Chip: "fpga:bank1", Offset: 3}},
		{"gpio-brcmstb@107d508500:5", Line{GPIO: -1, Chip: "gpio-brcmstb@107d508500", Offset: 5}},
	} {
		got, err := ParseLine(c.in)
		if err != nil {
			t.Errorf("ParseLine(%q): %v", c.in, err)
			continue
		}
		if got.String() != c.in {
			t.Errorf("ParseLine(%q).String() = %q", c.in, got)
		}
		got.text = ""
		if got != c.want {
			t.Errorf("ParseLine(%q) = %+v, want %+v", c.in, got, c.want)
		}
	}
}

func TestParseLineRefuses(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", "want GPIO17, 17, P1_11"},
		{"-1", "has a sign"},
		{"+17", "has a sign"},
		{"58", "GPIO0 to GPIO57"},
		{"GPIO58", "GPIO0 to GPIO57"},
		{"99999999999999999999", "GPIO0 to GPIO57"},
		{"017", "starts with a zero"},
		{"P1_1", "no GPIO but 3.3 V"},
		{"P1_2", "no GPIO but 5 V"},
		{"P1_6", "no GPIO but ground"},
		{"P1_0", "P1_1 to P1_40"},
		{"P1_41", "P1_1 to P1_40"},
		{"P1_011", "P1_1 to P1_40"},
		{"P1_99999999999999999999", "P1_1 to P1_40"},
		{"gpiochip0:", "is not a number"},
		{"gpiochip0:x", "is not a number"},
		{"gpiochip0:-1", "is not a number"},
		{"gpiochip0:017", "starts with a zero"},
		{"gpiochip0:65536", "more than any chip has"},
		{"gpiochip0:99999999999999999999", "more than any chip has"},
		{":17", "is empty"},
		{" GPIO17", "starts or ends with a space"},
		{"LED\n", "starts or ends with a space"},
		{"LE\x00D", "cannot be printed"},
		{"LE\xffD", "not UTF-8"},
		{strings.Repeat("x", 32), "31 bytes"},
		{strings.Repeat("x", 32) + ":1", "31 bytes"},
	} {
		l, err := ParseLine(c.in)
		if err == nil {
			t.Errorf("ParseLine(%q) = %+v, want an error", c.in, l)
			continue
		}
		if !strings.Contains(err.Error(), c.want) {
			t.Errorf("ParseLine(%q): %v, want %q in it", c.in, err, c.want)
		}
	}
}

// Every number from 0 to 27 is on the header exactly once, with 12 power pins.
func TestHeaderIsComplete(t *testing.T) {
	seen := map[int]int{}
	for _, gpio := range header40 {
		seen[gpio]++
	}
	for n := range 28 {
		if seen[n] != 1 {
			t.Errorf("GPIO%d is on the header %d times", n, seen[n])
		}
	}
	if seen[pin3V3] != 2 || seen[pin5V] != 2 || seen[pinGround] != 8 {
		t.Errorf("header has %d pins of 3.3 V, %d of 5 V, %d of ground, want 2, 2, 8", seen[pin3V3], seen[pin5V], seen[pinGround])
	}
}

func TestSameLine(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"GPIO17", "17", true},
		{"17", "P1_11", true},
		{"P1_11", "GPIO17", true},
		{"GPIO17", "GPIO17", true},
		{"GPIO17", "pinctrl-rp1:17", true},
		{"pinctrl-bcm2711:17", "P1_11", true},
		{"GPIO17", "pinctrl-rp1:18", false},
		{"GPIO17", "gpiochip0:17", false},
		{"GPIO17", "GPIO18", false},
		{"GPIO0", "PIN_LED", false},
		{"GPIO0", "gpio-sim:0", false},
		{"PIN_LED", "PIN_LED", true},
		{"PIN_LED", "pin_led", false},
		{"gpiochip0:17", "gpiochip0:17", true},
		{"gpiochip0:17", "gpiochip1:17", false},
		{"gpiochip0:17", "gpiochip0:18", false},
		{"gpiochip0:17", "PIN_LED", false},
		{"", "", false},
		{"P1_1", "P1_1", false},
	} {
		if got := SameLine(c.a, c.b); got != c.want {
			t.Errorf("SameLine(%q, %q) = %v, want %v", c.a, c.b, got, c.want)
		}
		if got := SameLine(c.b, c.a); got != c.want {
			t.Errorf("SameLine(%q, %q) = %v, want %v", c.b, c.a, got, c.want)
		}
	}
}

func FuzzParseLine(f *testing.F) {
	for _, s := range []string{"GPIO17", "17", "P1_11", "P1_1", "PIN_LED", "gpiochip0:17", "a:b:3", ":", "-1", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := ParseLine(s)
		if err != nil {
			if SameLine(s, s) {
				t.Errorf("%q is refused, yet the same as itself", s)
			}
			return
		}
		ways := 0
		for _, is := range []bool{l.GPIO >= 0, l.Chip != "", l.Name != "" && l.GPIO < 0} {
			if is {
				ways++
			}
		}
		if ways != 1 {
			t.Errorf("ParseLine(%q) = %+v means %d things", s, l, ways)
		}
		if l.GPIO > maxGPIO || l.Offset < 0 || l.Offset > maxOffset || len(l.Name) > maxName {
			t.Errorf("ParseLine(%q) = %+v is out of bounds", s, l)
		}
		if !SameLine(s, s) {
			t.Errorf("%q is not the same as itself", s)
		}
	})
}
