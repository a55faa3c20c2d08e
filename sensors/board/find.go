package board

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"unicode"
)

// ChipInfo describes one GPIO chip.
type ChipInfo struct {
	Label  string     // stable between kernels: "pinctrl-bcm2711"
	Device string     // its name now: "gpiochip0"
	Links  []string   // other names of the device: "gpiochip4" on a Raspberry Pi 5
	Lines  []LineInfo // by offset
	Err    error      // why the chip could not be read; it has no label and no lines then
}

// LineInfo describes one line.
type LineInfo struct {
	Name   string // the kernel's name; may be empty
	Used   bool   // somebody holds it
	Holder string // who holds it, if the kernel knows
	Output bool   // its direction
}

// is reports whether a name means the chip.
func (c ChipInfo) is(name string) bool {
	if c.Label == name || c.Device == name {
		return true
	}
	for _, l := range c.Links {
		if l == name {
			return true
		}
	}
	return false
}

// find returns the line of the chips that l means.
func find(chips []ChipInfo, l Line) (LineID, error) {
	var found []LineID
	for _, c := range chips {
		for offset, info := range c.Lines {
			if means(l, c, offset, info) {
				found = append(found, lineID(chips, c, offset))
			}
		}
	}
	switch len(found) {
	case 0:
		return LineID{}, fmt.Errorf("find line %q: %w", l, notFound(chips, l))
	case 1:
		return found[0], nil
	}
	names := make([]string, len(found))
	for i, id := range found {
		names[i] = fmt.Sprintf("%s:%d", id.Chip, id.Offset)
		if id.Label != id.Chip {
			names[i] += fmt.Sprintf(" (%s:%d)", visible(id.Label), id.Offset)
		}
	}
	return LineID{}, fmt.Errorf("find line %q: it may be any of %s; write which", l, strings.Join(names, ", "))
}

func means(l Line, c ChipInfo, offset int, info LineInfo) bool {
	switch {
	case l.Chip != "":
		return c.is(l.Chip) && offset == l.Offset
	case l.GPIO >= 0 && isPiChip(c.Label) && offset == l.GPIO:
		return true
	}
	return l.Name != "" && info.Name == l.Name
}

// lineID returns the line's identity. If chips share a label, it uses the device's name
// as the label, so that label and offset always mean one line.
func lineID(chips []ChipInfo, c ChipInfo, offset int) LineID {
	label := c.Label
	for _, other := range chips {
		if other.Label == c.Label && other.Device != c.Device {
			label = c.Device
		}
	}
	return LineID{Label: label, Chip: c.Device, Offset: offset, Name: c.Lines[offset].Name}
}

// notFound says why l means no line, which chips exist, and what to write instead.
func notFound(chips []ChipInfo, l Line) error {
	var readable []ChipInfo
	var unread error
	pi := false
	for _, c := range chips {
		if c.Err != nil {
			if unread == nil || errors.Is(c.Err, fs.ErrPermission) {
				unread = c.Err
			}
			continue
		}
		readable = append(readable, c)
		pi = pi || isPiChip(c.Label)
		if l.Chip != "" && c.is(l.Chip) {
			return fmt.Errorf("%w: chip %s has the offsets 0 to %d", ErrAbsent, l.Chip, len(c.Lines)-1)
		}
	}
	if unread != nil {
		return unread
	}
	return fmt.Errorf("%w: %s", ErrAbsent, instead(readable, l, pi))
}

// instead says why none of the chips has the line l, and what to write instead.
func instead(chips []ChipInfo, l Line, pi bool) string {
	there := listChips(chips)
	switch {
	case len(chips) == 0:
		return "this machine shows no GPIO chip, no /dev/gpiochip*"
	case l.Chip != "":
		return fmt.Sprintf("no chip of this name, there are %s; %s", there, insteadOfChip(chips, l, pi))
	case l.GPIO >= 0 && l.Name == "" && !pi:
		return fmt.Sprintf("numbers and P1_n mean a Raspberry Pi's lines, but the chips are %s; write chip:offset%s", there, example(chips, l.GPIO))
	case l.GPIO >= 0 && pi:
		return fmt.Sprintf("this Raspberry Pi has no GPIO%d; its header has GPIO0 to GPIO27", l.GPIO)
	}
	if name := nearName(chips, l.Name, pi); name != "" {
		return fmt.Sprintf("no line has this name, did you mean %s?", name)
	}
	return fmt.Sprintf("no line has this name, the chips are %s; `gpioinfo` lists their lines, and one without a name is chip:offset%s", there, example(chips, 0))
}

// mostListed is how many chips an error lists.
const mostListed = 8

// listChips names chips: "pinctrl-rp1 (gpiochip0, 54 lines), ...".
func listChips(chips []ChipInfo) string {
	var list []string
	for i, c := range chips {
		if i == mostListed {
			list = append(list, fmt.Sprintf("and %d more", len(chips)-i))
			break
		}
		s := "lines"
		if len(c.Lines) == 1 {
			s = "line"
		}
		list = append(list, fmt.Sprintf("%s (%s, %d %s)", visible(c.Label), c.Device, len(c.Lines), s))
	}
	return strings.Join(list, ", ")
}

// insteadOfChip says what to write, or do, when there is no chip of the name in l.
func insteadOfChip(chips []ChipInfo, l Line, pi bool) string {
	switch {
	case pi && isPiChip(l.Chip) && l.Offset <= maxGPIO:
		return fmt.Sprintf("write GPIO%d, which is this line on every Raspberry Pi", l.Offset)
	case pi && strings.EqualFold(l.Chip, "J8") && 1 <= l.Offset && l.Offset <= len(header40):
		return fmt.Sprintf("write P1_%d", l.Offset)
	}
	var near []ChipInfo
	for _, c := range chips {
		if l.Offset < len(c.Lines) && strings.Contains(strings.ToLower(c.Label), strings.ToLower(l.Chip)) {
			near = append(near, c)
		}
	}
	if len(near) == 1 {
		return fmt.Sprintf("did you mean %s:%d?", near[0].Label, l.Offset)
	}
	return fmt.Sprintf("write one of these%s; an I/O expander is there once its driver has it, by a line of config.txt such as dtoverlay=mcp23017,addr=0x20", example(chips, l.Offset))
}

// example returns ", such as chip:offset" with the name of a chip that has this line, or "".
func example(chips []ChipInfo, offset int) string {
	for _, c := range chips {
		if offset < len(c.Lines) && c.Label != "" {
			return fmt.Sprintf(", such as %s:%d", visible(c.Label), offset)
		}
	}
	return ""
}

// nearName returns the name of a line that differs only in case and punctuation, or, on a
// Raspberry Pi, what other programs call so: BCM17, IO17 and D17 are GPIO17, BOARD11 and PIN11
// are P1_11.
func nearName(chips []ChipInfo, name string, pi bool) string {
	name = plainName(name)
	for _, c := range chips {
		for offset, info := range c.Lines {
			if info.Name != "" && plainName(info.Name) == name {
				return visible(info.Name)
			}
			if gpio := fmt.Sprintf("GPIO%d", offset); isPiChip(c.Label) && gpio == name {
				return gpio
			}
		}
	}
	if !pi {
		return ""
	}
	letters := strings.TrimRight(name, "0123456789")
	number := name[len(letters):]
	other := map[string]string{"BCM": "GPIO", "IO": "GPIO", "D": "GPIO", "BOARD": "P1_", "PIN": "P1_"}[letters] + number
	if l, err := ParseLine(other); err != nil || l.GPIO < 0 || other == number {
		return ""
	}
	return other
}

// plainName returns a name in capitals, without punctuation.
func plainName(name string) string {
	return strings.ToUpper(strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return r
		}
		return -1
	}, name))
}
