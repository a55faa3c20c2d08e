package sensors

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"

	"fieldpost/sensors/board"
	"fieldpost/sensors/option"
)

// I2C are the keys of a chip on an I2C bus.
type I2C struct {
	// Bus is the I2C bus: i2c-1, a link to it in /dev, or its adapter's name or
	// part of it, such as CH341.
	Bus string `yaml:"bus"`
	// Address is the chip's address on its bus, 0x03 to 0x77.
	Address uint16 `yaml:"address"`
}

// Place returns bus and address.
func (o I2C) Place() Place { return Place{Bus: o.Bus, Address: o.Address} }

// i2cOptions returns the keys of a chip with these possible addresses, the usual one
// first.
func i2cOptions(addresses []uint16) option.Set {
	return option.Set{Defaults: I2C{Address: addresses[0]}, Rules: i2cRules(addresses)}
}

// i2cRules are the rules of the keys of [I2C], for options that embed it.
func i2cRules(addresses []uint16) map[string]option.Rule {
	return map[string]option.Rule{
		"bus": {Required: true, Check: busName},
		"address": {
			Wants: "a number such as 0x76",
			Check: func(v any) string {
				if !slices.Contains(addresses, v.(uint16)) {
					return "want " + AddressList(addresses)
				}
				return ""
			},
			Meant: func(v any, text string) string { return meantAddress(text, v.(uint16), addresses) },
			Loose: option.Between[uint16](board.FirstAddress, board.LastAddress, hex),
		},
	}
}

// meantAddress says which of a chip's addresses was probably meant. Some datasheets
// append the direction bit to addresses, and people forget the 0x.
func meantAddress(text string, a uint16, all []uint16) string {
	if x, err := strconv.ParseUint(text, 16, 16); err == nil && slices.Contains(all, uint16(x)) {
		return "; write " + hex(uint16(x)) + ", with 0x"
	}
	if slices.Contains(all, a>>1) {
		return "; " + hex(a) + " is " + hex(a>>1) + " followed by the direction bit"
	}
	return ""
}

func hex(x uint16) string { return fmt.Sprintf("0x%02x", x) }

// notBuses matches a typing mistake, or the name of another kind of bus.
var notBuses = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)^(i2c|spi|spidev|smbus|gpiochip|tty[a-z]*)?[-_ ]?[0-9.]*$`)
})

// isBus reports whether s is i2c- and a number of up to five digits without a leading zero.
func isBus(s string) bool {
	n, ok := strings.CutPrefix(s, "i2c-")
	return ok && option.IsNumber(n) && len(n) <= 5 && (n == "0" || n[0] != '0')
}

// busName checks a bus's name. Of the names that a board accepts for one bus, only one is
// allowed, because each name gets its own worker.
func busName(v any) string {
	s := v.(string)
	switch plain := strings.TrimPrefix(s, "/dev/"); {
	case isBus(s):
		return ""
	case isBus(plain), isBus("i2c-" + plain):
		return fmt.Sprintf("want the bus's name: %q", "i2c-"+strings.TrimPrefix(plain, "i2c-"))
	case notBuses().MatchString(plain), strings.ContainsFunc(s, unicode.IsControl), s != strings.TrimSpace(s), len(s) > 64,
		strings.HasPrefix(s, "/") && (plain == s || plain == "" || strings.Contains(plain, "..")):
		return "want the name of an I2C bus, such as i2c-1, a link to it such as /dev/i2c-greenhouse, or its adapter's name, such as CH341"
	}
	return ""
}

// dial opens the bus and returns a wire to the chip. An address of 0 means the first of
// addresses, the chip's usual one. dial begins the first call.
func dial(b board.Board, c Config, addresses []uint16) (*wire, error) {
	name, addr, err := addressOf(c.Place(), addresses)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", c.Chip, err)
	}
	bus, err := b.Bus(name)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", c.Chip, err)
	}
	w := newWire(c.Chip, bus, name, addr)
	w.pauser, _ = b.(board.Pauser)
	return w, nil
}

// lookOnBus returns the [Chip].Look of a chip on a bus.
func lookOnBus(addresses []uint16) func(board.Board, Config) error {
	return func(b board.Board, c Config) error {
		name, addr, err := addressOf(c.Place(), addresses)
		if err != nil {
			return err
		}
		bus, err := b.Bus(name)
		if err != nil {
			return err
		}
		if claimer, ok := bus.(board.Claimer); ok {
			err = claimer.Claim(addr)
		}
		return errors.Join(err, bus.Close())
	}
}

// addressOf returns the configured bus and address, or the usual address.
func addressOf(o Place, addresses []uint16) (bus string, addr uint16, err error) {
	if o.Bus == "" {
		return "", 0, errors.New("bus is missing: want one such as i2c-1")
	}
	addr = o.Address
	if addr == 0 {
		addr = addresses[0]
	}
	if !slices.Contains(addresses, addr) {
		return "", 0, fmt.Errorf("address: want %s (got 0x%02x)", AddressList(addresses), addr)
	}
	return o.Bus, addr, nil
}

// AddressList formats addresses for people: "0x48 to 0x4f or 0x76". It may be called from
// any goroutine.
func AddressList(addresses []uint16) string {
	all := slices.Sorted(slices.Values(addresses))
	var words []string
	for i := 0; i < len(all); {
		end := i
		for end+1 < len(all) && all[end+1] == all[end]+1 {
			end++
		}
		if end < i+2 { // too few for a run
			end = i
			words = append(words, fmt.Sprintf("0x%02x", all[i]))
		} else {
			words = append(words, fmt.Sprintf("0x%02x to 0x%02x", all[i], all[end]))
		}
		i = end + 1
	}
	if n := len(words); n > 1 {
		return strings.Join(words[:n-1], ", ") + " or " + words[n-1]
	}
	return strings.Join(words, "")
}
