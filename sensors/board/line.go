package board

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Line is a parsed name of a line. It says nothing about the hardware.
type Line struct {
	// GPIO is the Raspberry Pi's number of the line when it was written as
	// GPIO17, 17 or P1_11; -1 otherwise.
	GPIO int
	// Chip is the chip's label or device name when the line was written as
	// chip:offset; "" otherwise.
	Chip string
	// Offset is the line's offset on Chip.
	Offset int
	// Name is the kernel's name of the line, for GPIO17 too. It is "" if the line was
	// written as a bare number, a header's pin or chip:offset.
	Name string

	text string // as the user wrote it
}

// String returns the line as it was written.
func (l Line) String() string { return l.text }

const (
	maxGPIO   = 57    // the last line of a BCM2711; the BCM283x and the RP1 end at 53
	maxOffset = 65535 // more than any chip has
	maxName   = 31    // GPIO_MAX_NAME_SIZE of linux/gpio.h less its final NUL
)

const accepted = "GPIO17, 17, P1_11, a line's kernel name, or chip:offset such as gpiochip0:17 or pinctrl-rp1:17"

// isNumber reports whether s is one or more decimal digits.
func isNumber(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// isGPIO reports whether s is GPIO0 to GPIO99, without a leading zero.
func isGPIO(s string) bool {
	n, ok := strings.CutPrefix(s, "GPIO")
	return ok && isNumber(n) && len(n) <= 2 && (n == "0" || n[0] != '0')
}

// isHeaderPin reports whether s is P1_ and a number.
func isHeaderPin(s string) bool {
	n, ok := strings.CutPrefix(s, "P1_")
	return ok && isNumber(n)
}

// isSigned reports whether s is a sign and a number.
func isSigned(s string) bool {
	return s != "" && strings.ContainsRune("+-", rune(s[0])) && isNumber(s[1:])
}

// ParseLine parses a line's name as a user may write it.
//
//   - GPIO17: the Raspberry Pi's line of that number, or on any machine the
//     line with that kernel name.
//   - 17: the Raspberry Pi's line of that number.
//   - P1_11: pin 11 of the Raspberry Pi's 40-pin header.
//   - chip:offset, such as pinctrl-rp1:17 or gpiochip0:17: a chip's label or
//     device name, and the line's offset on it. Labels are stable between
//     kernels, device names are not.
//   - Anything else is the kernel's name of the line: PIN_LED.
//
// The error says what is accepted. ParseLine does not check whether the line exists;
// [Board].Find does.
func ParseLine(s string) (Line, error) {
	l := Line{GPIO: -1, text: s}
	switch {
	case s == "":
		return Line{}, fmt.Errorf("line is empty: want %s", accepted)
	case isSigned(s):
		return Line{}, fmt.Errorf("line %q has a sign: want %s", s, accepted)
	case isGPIO(s):
		n, err := gpioNumber(s, s[len("GPIO"):])
		l.GPIO, l.Name = n, s
		return l, err
	case isNumber(s):
		n, err := gpioNumber(s, s)
		l.GPIO = n
		return l, err
	case isHeaderPin(s):
		n, err := headerPin(s)
		l.GPIO = n
		return l, err
	}
	if i := strings.LastIndexByte(s, ':'); i >= 0 {
		return parseChipOffset(l, s[:i], s[i+1:])
	}
	if err := checkName(s); err != nil {
		return Line{}, fmt.Errorf("line %q %w: want %s", s, err, accepted)
	}
	l.Name = s
	return l, nil
}

func gpioNumber(s, number string) (int, error) {
	if len(number) > 1 && number[0] == '0' {
		return 0, fmt.Errorf("line %q starts with a zero: write it without", s)
	}
	n, err := strconv.Atoi(number)
	if err != nil || n > maxGPIO {
		return 0, fmt.Errorf("line %q: a Raspberry Pi's lines are GPIO0 to GPIO%d; on other machines write the line's kernel name or chip:offset", s, maxGPIO)
	}
	return n, nil
}

func parseChipOffset(l Line, chip, offset string) (Line, error) {
	if !isNumber(offset) {
		return Line{}, fmt.Errorf("line %q: offset %q after the colon is not a number: want chip:offset such as gpiochip0:17 or pinctrl-rp1:17", l.text, offset)
	}
	if len(offset) > 1 && offset[0] == '0' {
		return Line{}, fmt.Errorf("line %q: offset %q starts with a zero: write it without", l.text, offset)
	}
	n, err := strconv.Atoi(offset)
	if err != nil || n > maxOffset {
		return Line{}, fmt.Errorf("line %q: offset %s is more than any chip has (%d)", l.text, offset, maxOffset)
	}
	if err := checkName(chip); err != nil {
		return Line{}, fmt.Errorf("line %q: chip %q %w", l.text, chip, err)
	}
	l.Chip, l.Offset = chip, n
	return l, nil
}

// checkName returns an error for a name that cannot be in the kernel's 32-byte fields.
func checkName(s string) error {
	switch {
	case s == "":
		return errors.New("is empty")
	case len(s) > maxName:
		return fmt.Errorf("is longer than the kernel's %d bytes", maxName)
	case s != strings.TrimSpace(s):
		return errors.New("starts or ends with a space")
	case !utf8.ValidString(s):
		return errors.New("is not UTF-8")
	case strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }):
		return errors.New("has a character that cannot be printed")
	}
	return nil
}

// SameLine reports whether two names certainly mean one line, as GPIO17, 17 and P1_11 do.
// It does not ask the hardware, so it returns false for a kernel name and a chip:offset
// that mean one line. It also returns false for invalid names.
func SameLine(a, b string) bool {
	la, errA := ParseLine(a)
	lb, errB := ParseLine(b)
	switch {
	case errA != nil || errB != nil:
		return false
	case la.GPIO >= 0 || lb.GPIO >= 0:
		return la.GPIO == lb.GPIO || onPiChip(la, lb.GPIO) || onPiChip(lb, la.GPIO)
	case la.Chip != "" || lb.Chip != "":
		return la.Chip == lb.Chip && la.Offset == lb.Offset
	}
	return la.Name == lb.Name
}

// onPiChip reports whether l is a Raspberry Pi's line of that number, written as
// label:offset.
func onPiChip(l Line, gpio int) bool {
	return gpio >= 0 && isPiChip(l.Chip) && l.Offset == gpio
}

// isPiChip reports whether a chip's label is that of the controller behind a
// Raspberry Pi's header, on which GPIO17 has the offset 17: pinctrl-bcm2835
// (1 to 3, Zero), pinctrl-bcm2711 (4), pinctrl-rp1 (5).
func isPiChip(label string) bool {
	switch label {
	case "pinctrl-bcm2835", "pinctrl-bcm2711", "pinctrl-rp1":
		return true
	}
	return false
}
