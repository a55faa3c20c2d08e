package board

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
)

// pi5 returns a shortened set of a Raspberry Pi 5's chips: the header's chip, two chips
// with the same label, and an expander whose lines have no names.
func pi5() []ChipInfo {
	header := ChipInfo{Label: "pinctrl-rp1", Device: "gpiochip0", Links: []string{"gpiochip4"}}
	for n := range 54 {
		header.Lines = append(header.Lines, LineInfo{Name: fmt.Sprintf("GPIO%d", n)})
	}
	header.Lines[0].Name, header.Lines[1].Name = "ID_SDA", "ID_SCL"
	header.Lines[2].Name = ""
	system := func(device string) ChipInfo {
		return ChipInfo{Label: "gpio-brcmstb", Device: device, Lines: []LineInfo{{Name: "-"}, {Name: "2712_WAKE"}, {Name: "PWR_GPIO"}}}
	}
	one, two := system("gpiochip10"), system("gpiochip11")
	two.Lines[2].Name = "RP1_RUN"
	return []ChipInfo{header, one, two, {Label: "tca9534", Device: "gpiochip12", Lines: make([]LineInfo, 8)}}
}

func TestFind(t *testing.T) {
	for in, want := range map[string]LineID{
		"GPIO17":         {"pinctrl-rp1", "gpiochip0", 17, "GPIO17"},
		"17":             {"pinctrl-rp1", "gpiochip0", 17, "GPIO17"},
		"P1_11":          {"pinctrl-rp1", "gpiochip0", 17, "GPIO17"},
		"GPIO0":          {"pinctrl-rp1", "gpiochip0", 0, "ID_SDA"}, // the kernel calls it otherwise
		"GPIO2":          {"pinctrl-rp1", "gpiochip0", 2, ""},
		"ID_SCL":         {"pinctrl-rp1", "gpiochip0", 1, "ID_SCL"},
		"pinctrl-rp1:17": {"pinctrl-rp1", "gpiochip0", 17, "GPIO17"},
		"gpiochip0:17":   {"pinctrl-rp1", "gpiochip0", 17, "GPIO17"},
		"gpiochip4:17":   {"pinctrl-rp1", "gpiochip0", 17, "GPIO17"}, // the link of older tutorials
		"tca9534:7":      {"tca9534", "gpiochip12", 7, ""},
		"RP1_RUN":        {"gpiochip11", "gpiochip11", 2, "RP1_RUN"}, // its chip's label is not unique
		"gpiochip10:1":   {"gpiochip10", "gpiochip10", 1, "2712_WAKE"},
	} {
		l, err := ParseLine(in)
		if err != nil {
			t.Fatal(err)
		}
		got, err := find(pi5(), l)
		if err != nil || got != want {
			t.Errorf("find %q: %+v, %v, want %+v", in, got, err, want)
		}
		// Label and offset must find the same line: the crash record relies on it.
		back, err := ParseLine(fmt.Sprintf("%s:%d", got.Label, got.Offset))
		if err != nil {
			t.Fatal(err)
		}
		if again, err := find(pi5(), back); err != nil || again != got {
			t.Errorf("find %q again by %s: %+v, %v", in, back, again, err)
		}
	}
}

func TestFindRefuses(t *testing.T) {
	sim := []ChipInfo{{Label: "bench-gpio", Device: "gpiochip0", Lines: []LineInfo{{Name: "GPIO17"}, {Name: "PIN_LED"}}}}
	many := make([]ChipInfo, 10)
	for i := range many {
		many[i] = ChipInfo{Label: fmt.Sprintf("expander-%d", i), Device: fmt.Sprintf("gpiochip%d", i), Lines: make([]LineInfo, 1)}
	}
	twice := append(pi5(), ChipInfo{Label: "expander", Device: "gpiochip13", Lines: []LineInfo{{Name: "GPIO17"}}})
	locked := []ChipInfo{{Device: "gpiochip0", Err: fmt.Errorf("open: %w", fs.ErrPermission)}}
	broken := []ChipInfo{{Device: "gpiochip0", Err: errors.New("odd")}, locked[0], {Device: "gpiochip2", Err: errors.New("odd")}}
	for _, c := range []struct {
		chips  []ChipInfo
		in     string
		reason error
		want   string
	}{
		{pi5(), "2712_WAKE", nil, "any of gpiochip10:1, gpiochip11:1; write which"},
		{pi5(), "gpio-brcmstb:1", nil, "any of gpiochip10:1, gpiochip11:1; write which"},
		{twice, "GPIO17", nil, "gpiochip0:17 (pinctrl-rp1:17), gpiochip13:0 (expander:0)"},
		{pi5(), "GPIO57", ErrAbsent, "this Raspberry Pi has no GPIO57; its header has GPIO0 to GPIO27"},
		{pi5(), "57", ErrAbsent, "this Raspberry Pi has no GPIO57"},
		{pi5(), "PIN_LED", ErrAbsent, "the chips are pinctrl-rp1 (gpiochip0, 54 lines), gpio-brcmstb (gpiochip10, 3 lines)"},
		{pi5(), "PIN_LED", ErrAbsent, "`gpioinfo` lists their lines, and one without a name is chip:offset, such as pinctrl-rp1:0"},
		{pi5(), "id_sda", ErrAbsent, "did you mean ID_SDA?"},
		{pi5(), "gpio17", ErrAbsent, "did you mean GPIO17?"},
		{pi5(), "gpio2", ErrAbsent, "did you mean GPIO2?"},
		{pi5(), "GPIO-17", ErrAbsent, "did you mean GPIO17?"},
		{pi5(), "BCM17", ErrAbsent, "did you mean GPIO17?"},
		{pi5(), "board11", ErrAbsent, "did you mean P1_11?"},
		{pi5(), "PIN41", ErrAbsent, "`gpioinfo`"},
		{pi5(), "BCM58", ErrAbsent, "`gpioinfo`"},
		{pi5(), "BCM", ErrAbsent, "`gpioinfo`"},
		{pi5(), "tca9534:8", ErrAbsent, "has the offsets 0 to 7"},
		{pi5(), "pinctrl-bcm2711:17", ErrAbsent, "no chip of this name, there are pinctrl-rp1 (gpiochip0, 54 lines)"},
		{pi5(), "pinctrl-bcm2711:17", ErrAbsent, "write GPIO17, which is this line on every Raspberry Pi"},
		{pi5(), "J8:11", ErrAbsent, "write P1_11"},
		{pi5(), "rp1:17", ErrAbsent, "did you mean pinctrl-rp1:17?"},
		{pi5(), "1-0020:7", ErrAbsent, "such as pinctrl-rp1:7; an I/O expander is there once its driver has it"},
		{pi5(), "1-0020:60000", ErrAbsent, "write one of these; an I/O expander"},
		{sim, "17", ErrAbsent, "the chips are bench-gpio (gpiochip0, 2 lines); write chip:offset"},
		{sim, "1", ErrAbsent, "write chip:offset, such as bench-gpio:1"},
		{sim, "P1_11", ErrAbsent, "write chip:offset"},
		{sim, "GPIO18", ErrAbsent, "no line has this name"},
		{sim, "BCM1", ErrAbsent, "`gpioinfo`"},
		{many, "gpio:1", ErrAbsent, "gpiochip7, 1 line), and 2 more; "},
		{nil, "GPIO17", ErrAbsent, "no /dev/gpiochip*"},
		{locked, "GPIO17", fs.ErrPermission, "open"},
		{locked, "gpiochip0:17", fs.ErrPermission, "open"},
		{broken, "GPIO17", fs.ErrPermission, "open"},
		{broken[:1], "GPIO17", nil, "odd"},
	} {
		l, err := ParseLine(c.in)
		if err != nil {
			t.Fatal(err)
		}
		id, err := find(c.chips, l)
		if err == nil {
			t.Errorf("find %q gave %v", c.in, id)
			continue
		}
		if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), fmt.Sprintf("%q", c.in)) {
			t.Errorf("find %q: %v, want %q", c.in, err, c.want)
		}
		if c.reason != nil && !errors.Is(err, c.reason) {
			t.Errorf("find %q: %v does not wrap %v", c.in, err, c.reason)
		}
		if c.reason == nil && (errors.Is(err, ErrAbsent) || errors.Is(err, fs.ErrPermission)) {
			t.Errorf("find %q: %v wraps a reason that is not so", c.in, err)
		}
	}
	// GPIO17 is found by its kernel name on any machine.
	l, _ := ParseLine("GPIO17")
	if id, err := find(sim, l); err != nil || id.Offset != 0 {
		t.Errorf("find GPIO17 by name: %v, %v", id, err)
	}
}
