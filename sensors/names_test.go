package sensors

import (
	"regexp"
	"testing"
)

// The names of devices are checked without regular expressions, which would be compiled at
// every start. Here they are compared with them.
func TestDeviceNameForms(t *testing.T) {
	forms := []struct {
		is      func(string) bool
		pattern string
		heads   []string
	}{
		{isBus, `^i2c-(0|[1-9][0-9]{0,4})$`, []string{"", "i2c-", "i2c", "I2C-", "i2c-123"}},
		{isSPIDevice, `^spidev[0-9]+\.[0-9]+$`, []string{"", "spidev", "spidev0.", "spidev0", "spi0."}},
		{isSerialPort, `^tty[A-Za-z]+[0-9]+$`, []string{"", "tty", "ttyAMA", "ttyS", "TTYS", "ttyS0"}},
	}
	tails := []string{}
	for range 4 {
		next := []string{""}
		for _, tail := range tails {
			for _, c := range []string{"0", "1", "9", "-", ".", "a", "Z", "[", "\n", "\xff", "\u0661"} {
				next = append(next, c+tail)
			}
		}
		tails = next
	}
	for _, f := range forms {
		r := regexp.MustCompile(f.pattern)
		for _, head := range f.heads {
			for _, tail := range tails {
				if s := head + tail; f.is(s) != r.MatchString(s) {
					t.Errorf("%q is %v, want %v as of %s", s, f.is(s), r.MatchString(s), f.pattern)
				}
			}
		}
	}
}
