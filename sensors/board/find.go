package board

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
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

// notFound says why l means no line, and which chips exist.
func notFound(chips []ChipInfo, l Line) error {
	var labels []string
	var unread error
	pi := false
	for _, c := range chips {
		if c.Err != nil {
			if unread == nil || errors.Is(c.Err, fs.ErrPermission) {
				unread = c.Err
			}
			continue
		}
		labels = append(labels, visible(c.Label))
		pi = pi || isPiChip(c.Label)
		if l.Chip != "" && c.is(l.Chip) {
			return fmt.Errorf("chip %s has the offsets 0 to %d: %w", l.Chip, len(c.Lines)-1, ErrAbsent)
		}
	}
	switch {
	case unread != nil:
		return unread
	case len(chips) == 0:
		return fmt.Errorf("this machine shows no GPIO chip, no /dev/gpiochip*: %w", ErrAbsent)
	case l.Chip != "":
		return fmt.Errorf("no chip of this name, there are %s: %w", strings.Join(labels, ", "), ErrAbsent)
	case l.GPIO >= 0 && l.Name == "" && !pi:
		return fmt.Errorf("numbers and P1_n mean a Raspberry Pi's lines, but the chips are %s; write chip:offset: %w", strings.Join(labels, ", "), ErrAbsent)
	case l.GPIO >= 0 && pi:
		return fmt.Errorf("this Raspberry Pi has no GPIO%d: %w", l.GPIO, ErrAbsent)
	}
	if name := nearName(chips, l.Name); name != "" {
		return fmt.Errorf("no line has this name, did you mean %s?: %w", name, ErrAbsent)
	}
	return fmt.Errorf("no line has this name, the chips are %s: %w", strings.Join(labels, ", "), ErrAbsent)
}

// nearName returns the name of a line that differs only in case.
func nearName(chips []ChipInfo, name string) string {
	for _, c := range chips {
		for offset, info := range c.Lines {
			if info.Name != "" && strings.EqualFold(info.Name, name) {
				return info.Name
			}
			if gpio := fmt.Sprintf("GPIO%d", offset); isPiChip(c.Label) && strings.EqualFold(gpio, name) {
				return gpio
			}
		}
	}
	return ""
}
