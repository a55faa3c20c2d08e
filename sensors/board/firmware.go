package board

import "fmt"

// PowerOn returns the line of a Raspberry Pi's config.txt that has the firmware
// give an output its level while it boots, long before any program runs:
// "gpio=27=op,dl". ok is false for a line that the firmware does not set: it
// knows those of the Pi's own chip, and we offer those of the header that no
// HAT's EEPROM is on.
//
// The level is c.Active in the words of the wire: dh or dl. A level that the
// output's drive leaves to a resistor is left to that from the beginning, as an
// input without a pull of its own: "gpio=27=ip,pn".
//
// Source: Raspberry Pi documentation, "GPIO control in config.txt". The firmware
// does it since March 2018, a few seconds after power is applied; until then the
// line has the pull that the chip is made with.
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

// onHeader reports whether a Pi's line is on the 40-pin header and free there:
// GPIO0 and GPIO1 are those of the EEPROM on a HAT.
func onHeader(gpio int) bool {
	for _, n := range header40 {
		if n == gpio {
			return gpio > 1
		}
	}
	return false
}
