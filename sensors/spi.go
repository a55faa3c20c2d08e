package sensors

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"fieldpost/sensors/board"
	"fieldpost/sensors/option"
)

// SPI are the keys of a chip on SPI, for options that embed it.
type SPI struct {
	// Device is the SPI device, bus and chip select: spidev0.0, or a link to it in
	// /dev, written with /dev/.
	Device string `yaml:"device"`
}

// Place returns the device.
func (o SPI) Place() Place { return Place{SPI: o.Device} }

// spiRule is the rule of the key of [SPI].
var spiRule = option.Rule{Required: true, Wants: "an SPI device such as spidev0.0", Check: spiName}

// isSPIDevice reports whether s is spidev, a number, a dot and a number.
func isSPIDevice(s string) bool {
	n, ok := strings.CutPrefix(s, "spidev")
	bus, device, dot := strings.Cut(n, ".")
	return ok && dot && option.IsNumber(bus) && option.IsNumber(device)
}

// spiName checks an SPI device's name. Only one name is allowed for each device.
func spiName(v any) string {
	s := v.(string)
	switch plain, full := strings.CutPrefix(s, "/dev/"); {
	case !full && isSPIDevice(s):
		return ""
	case isSPIDevice(plain):
		return fmt.Sprintf("want the device's name: %q", plain)
	case full && deviceLink(plain):
		return ""
	}
	return "want the name of an SPI device, such as spidev0.0, or a link to it such as /dev/spi-adc"
}

// deviceLink reports whether a path below /dev may be a link to a device.
func deviceLink(s string) bool {
	return s != "" && len(s) <= 64 && !strings.Contains(s, "..") && !strings.ContainsFunc(s, unicode.IsControl)
}

// spiWire is an SPI device with a chip at its end.
type spiWire struct {
	handle
	dev board.SPI
}

// dialSPI opens an SPI device and begins the first call.
func dialSPI(b board.Board, chip string, c board.SPIConfig) (*spiWire, error) {
	if c.Device == "" {
		return nil, fmt.Errorf("open %s: device is missing: want one such as spidev0.0", chip)
	}
	dev, err := b.SPI(c)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", chip, err)
	}
	w := &spiWire{handle{chip: chip, where: "on " + c.Device, name: c.Device, device: dev}, dev}
	w.begin()
	return w, nil
}

// lookSPI does what [Chip].Look does for a chip on SPI.
func lookSPI(b board.Board, device string) error {
	if device == "" {
		return errors.New("device is missing: want one such as spidev0.0")
	}
	dev, err := b.SPI(board.SPIConfig{Device: device, MaxHz: 100_000})
	if err != nil {
		return err
	}
	return dev.Close()
}

// transfer sends bytes and returns those received meanwhile.
func (w *spiWire) transfer(out ...byte) ([]byte, error) {
	in := make([]byte, len(out))
	err := w.do(func() error { return w.dev.Tx(out, in) })
	return in, err
}
