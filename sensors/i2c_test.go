package sensors

import (
	"strings"
	"testing"
)

func TestBusNames(t *testing.T) {
	for _, s := range []string{"i2c-0", "i2c-22", "CH341", "i2c-ch341-usb", "bcm2835 (i2c@7e804000)", "MCP2221 usb-i2c bridge", "/dev/i2c-my-bus1", "/dev/bus/green", "FT232H"} {
		if reason := busName(s); reason != "" {
			t.Errorf("%q: %s", s, reason)
		}
	}
	for _, s := range []string{
		"", "1", "i2c1", "i2c_1", "I2C-1", "i2c 1", "i2c-", "i2c-01", "spi0", "spidev0.0", "ttyUSB0", "gpiochip0", "/dev/", "/dev/i2c-1", "/dev/1", "/dev/ttyS0",
		"/sys/bus/i2c", "/dev/../etc/passwd", " CH341", "CH341\n", "CH341\x00", strings.Repeat("x", 65),
	} {
		if reason := busName(s); !strings.HasPrefix(reason, "want the") {
			t.Errorf("%q: %q, want a refusal", s, reason)
		}
	}
}
