package scan

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"fieldpost/sensors"
	"fieldpost/sensors/board"
)

// An identity recognises a chip of the catalog among all chips that may have its
// addresses. It reads only what reading does not change. The sources are those of the
// drivers.
type identity struct {
	chip string
	// commands marks a chip with commands instead of registers, which acknowledges a read
	// only after a command. Only such chips are sent commands.
	commands bool
	is       func(p *prober) bool
	// or are chips with the same answers.
	or []string
}

// identities are tried in this order: low registers first, because chips that fieldpost
// does not know may have a register or a command at high numbers.
var identities = []identity{
	{chip: "bmp388", is: register(0x00, 0x50)},
	{chip: "bmp390", is: register(0x00, 0x60)},
	{chip: "ads1115", is: isADS, or: []string{"ads1015"}},
	{chip: "tmp102", is: isTMP102},
	{chip: "lm75b", is: func(p *prober) bool { return isLM75(p, 0x7F) }, or: []string{"pct2075"}},
	{chip: "lm75", is: func(p *prober) bool { return isLM75(p, 0) }, or: []string{"lm75b", "pct2075"}},
	{chip: "ina219", is: func(p *prober) bool { return register(0x00, 0x39, 0x9F)(p) || register(0x00, 0x39, 0x9B)(p) }},
	{chip: "veml7700", is: func(p *prober) bool { b := p.read(2, 0x07); return b != nil && b[0] == 0x81 }},
	{chip: "mcp9808", is: func(p *prober) bool { return register(0x06, 0x00, 0x54)(p) && register(0x07, 0x04)(p) }},
	{chip: "tmp117", is: func(p *prober) bool { b := p.read(2, 0x0F); return b != nil && b[0]&0x0F == 0x01 && b[1] == 0x17 }},
	{chip: "mlx90614", is: isMLX},
	{chip: "tsl2561", is: func(p *prober) bool { b := p.read(1, 0x8A); return b != nil && b[0]&0xF0 == 0x50 }},
	{chip: "tsl2591", is: register(0xA0|0x12, 0x50)},
	{chip: "bme280", is: register(0xD0, 0x60)},
	{chip: "bme680", is: register(0xD0, 0x61)},
	{chip: "bmp180", is: register(0xD0, 0x55)},
	{chip: "bmp280", is: func(p *prober) bool { b := p.read(1, 0xD0); return b != nil && b[0] >= 0x56 && b[0] <= 0x58 }},
	{chip: "ina226", is: isINA(0x2260)},
	{chip: "ina260", is: isINA(0x2270)},
	{chip: "ina3221", is: isINA(0x3220)},
	{chip: "aht20", is: isAHT20},
	{chip: "ezoph", is: isEZO("pH")},
	{chip: "ezoec", is: isEZO("EC")},
	{chip: "ezodo", is: isEZO("D.O.")},
	{chip: "ezoorp", is: isEZO("ORP")},
	{chip: "ezortd", is: isEZO("RTD")},

	{chip: "hdc302x", commands: true, is: func(p *prober) bool { return bytes.Equal(p.words(1, time.Millisecond, 0x37, 0x81), []byte{0x30, 0x00}) }},
	{chip: "sht3x", commands: true, is: func(p *prober) bool { return p.words(1, time.Millisecond, 0xF3, 0x2D) != nil }},
	{chip: "sht4x", commands: true, is: func(p *prober) bool { return p.words(2, time.Millisecond, 0x89) != nil }},
	{chip: "scd4x", commands: true, is: func(p *prober) bool {
		return p.words(1, time.Millisecond, 0xE4, 0xB8) != nil || p.words(3, time.Millisecond, 0x36, 0x82) != nil
	}},
	{chip: "scd30", commands: true, is: func(p *prober) bool { return p.words(1, 5*time.Millisecond, 0xD1, 0x00) != nil }},
	{chip: "sgp30", commands: true, is: func(p *prober) bool {
		w := p.words(1, 12*time.Millisecond, 0x20, 0x2F)
		return w != nil && w[0]>>4 == 0 && w[1] != 0
	}},
	{chip: "sgp40", commands: true, is: isSGP4x(0x20)},
	{chip: "sgp41", commands: true, is: isSGP4x(0x40)},
	{chip: "sps30", commands: true, is: func(p *prober) bool { return p.words(1, 20*time.Millisecond, 0xD1, 0x00) != nil }},
	{chip: "si7021", commands: true, is: isSi7021},
	{chip: "htu21d", commands: true, is: func(p *prober) bool { b := p.command(1, time.Millisecond, 0xE7); return b != nil && b[0]&0x38 != 0x38 }, or: []string{"sht21"}},
	{chip: "shtc3", commands: true, is: isSHTC3},
}

// register is an identity in a register.
func register(reg byte, want ...byte) func(*prober) bool {
	return func(p *prober) bool { return bytes.Equal(p.read(len(want), reg), want) }
}

// isADS checks the values of the two thresholds after power-on. fieldpost's driver does
// not change them.
func isADS(p *prober) bool { return register(0x02, 0x80, 0x00)(p) && register(0x03, 0x7F, 0xFF)(p) }

// isLM75 checks the values of the two limits after power-on, and that the configuration
// does not have the bits of a TMP102. One of the temperature's bits in low must be set.
func isLM75(p *prober, low byte) bool {
	conf, t := p.read(1, 0x01), p.read(2, 0x00)
	return register(0x02, 0x4B, 0x00)(p) && register(0x03, 0x50, 0x00)(p) && conf != nil && conf[0]&^1 == 0 &&
		t != nil && (low == 0 || t[1]&low != 0)
}

func isTMP102(p *prober) bool {
	conf := p.read(2, 0x01)
	return register(0x02, 0x4B, 0x00)(p) && register(0x03, 0x50, 0x00)(p) && conf != nil && conf[0]&0x60 == 0x60 && conf[1]&0x0F == 0
}

// isINA checks the two identities of Texas Instruments. The last digit is the revision.
func isINA(die uint16) func(*prober) bool {
	return func(p *prober) bool {
		id := p.read(2, 0xFF)
		return register(0xFE, 0x54, 0x49)(p) && id != nil && id[0] == byte(die>>8) && id[1]&0xF0 == byte(die)
	}
}

// isMLX reads the object's temperature: its packet error code covers the addresses too.
func isMLX(p *prober) bool {
	b := p.read(3, 0x07)
	return b != nil && crc8(0x07, 0, byte(p.addr<<1), 0x07, byte(p.addr<<1|1), b[0], b[1]) == b[2]
}

// isAHT20 reads the last measurement without starting one, because an I/O expander at the
// same address would take the command as levels of its outputs.
func isAHT20(p *prober) bool {
	b := p.read(7)
	return b != nil && b[0]&0x18 == 0x18 && b[0] != b[1] && crc8(0x31, 0xFF, b[:6]...) == b[6]
}

// isSGP4x checks the number of the feature set.
func isSGP4x(features byte) func(*prober) bool {
	return func(p *prober) bool {
		w := p.words(1, time.Millisecond, 0x20, 0x2F)
		return w != nil && w[0]&1 == 0 && w[1] == features
	}
}

// isEZO asks an EZO circuit what it is, if there is one: it answers a read without a command
// with 255, "no data", and then zeros or more of it. The command is one byte, like the number of
// a register. The answer is kept for the other kinds.
func isEZO(device string) func(*prober) bool {
	return func(p *prober) bool {
		if p.ezo == nil {
			p.ezo = []byte{}
			if b := p.read(2); b != nil && b[0] == 0xFF {
				p.ezo = append(p.ezo, p.command(16, 300*time.Millisecond, 'i')...)
			}
		}
		return len(p.ezo) > 0 && p.ezo[0] == 1 && bytes.HasPrefix(bytes.ToLower(p.ezo[1:]), []byte("?i,"+strings.ToLower(device)+","))
	}
}

func isSi7021(p *prober) bool {
	b := p.command(6, time.Millisecond, 0xFC, 0xC9)
	return b != nil && slices.Contains([]byte{0x0D, 0x14, 0x15}, b[0]) && crc8(0x31, 0, b[0], b[1]) == b[2]
}

// isSHTC3 wakes the chip, which does not answer while it sleeps, and puts it to sleep
// again.
func isSHTC3(p *prober) bool {
	p.command(0, time.Millisecond, 0x35, 0x17)
	id := p.words(1, time.Millisecond, 0xEF, 0xC8)
	if id == nil || id[0]&0x08 != 0x08 || id[1]&0x3F != 0x07 {
		return false
	}
	p.command(0, 0, 0xB0, 0x98)
	return true
}

// readOnly reports whether an address must not be written to unless a chip of the catalog
// is known to have it. Not even a register's number may be written:
//
//   - 0x20 to 0x27 and 0x38 to 0x3f: the expanders PCF8574 and PCF8574A take every byte as the
//     levels of their outputs.
//   - 0x30 to 0x37: a write may write-protect a RAM module's memory for ever.
//   - 0x50 to 0x5f without 0x5a to 0x5d: memories, of which some were damaged by writes that
//     were meant as probes (i2cdetect's rule).
func readOnly(addr uint16) bool {
	switch {
	case addr >= 0x20 && addr <= 0x27, addr >= 0x30 && addr <= 0x3F:
		return true
	}
	return addr >= 0x50 && addr <= 0x5F && (addr < 0x5A || addr > 0x5D)
}

// mayBe lists the chips of the catalog that can have an address, without those that an
// identity rules out.
func mayBe(addr uint16, commands bool) []string {
	var names []string
	for _, c := range sensors.Catalog() {
		known := slices.ContainsFunc(identities, func(i identity) bool { return i.chip == c.Name })
		ruledOut := known && !commands && !readOnly(addr) && !slices.Contains(unsure, c.Name)
		if slices.Contains(c.Addresses, addr) && !ruledOut {
			names = append(names, c.Name)
		}
	}
	return names
}

// unsure are chips that are recognised by their registers' values after power-on, or by a
// measurement. So one may be present without being recognised.
var unsure = []string{"ads1115", "tmp102", "lm75", "lm75b", "ina219", "aht20", "veml7700"}

// crc8 returns a CRC of eight bits, most significant bit first.
func crc8(poly, crc byte, p ...byte) byte {
	for _, b := range p {
		crc ^= b
		for range 8 {
			carry := crc & 0x80
			if crc <<= 1; carry != 0 {
				crc ^= poly
			}
		}
	}
	return crc
}

// first and last are the addresses that are probed.
const first, last = board.FirstAddress, board.LastAddress
