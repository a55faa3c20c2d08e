package board

import "fmt"

// PowerOn returns the line of a Raspberry Pi's config.txt that makes the firmware drive
// an output at boot, long before any program runs: "gpio=27=op,dl". ok is false for a
// line that the firmware does not set, or that is not on the header, or that is for a
// HAT's EEPROM.
//
// The level is c.Active as a physical level, dh or dl. If the output's drive leaves that
// level to an external resistor, the firmware makes the line an input without a pull:
// "gpio=27=ip,pn".
//
// Source: Raspberry Pi documentation, "GPIO control in config.txt". The firmware of March
// 2018 and later does this, a few seconds after power-on. Until then the line has the
// chip's default pull.
func PowerOn(id LineID, c OutputConfig) (line string, ok bool) {
	if !isPiChip(id.Label) || !onHeader(id.Offset) {
		return "", false
	}
	high := c.Active != c.ActiveLow
	state := "op,dl"
	switch {
	case c.Drive == OpenDrain && high, c.Drive == OpenSource && !high:
		state = "ip,pn"
	case high:
		state = "op,dh"
	}
	return fmt.Sprintf("gpio=%d=%s", id.Offset, state), true
}

// onHeader reports whether a Pi's line is on the 40-pin header, and is not one of a HAT's
// EEPROM (GPIO0 and GPIO1).
func onHeader(gpio int) bool {
	for _, n := range header40 {
		if n == gpio {
			return gpio > 1
		}
	}
	return false
}
