package board

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Claimer may be implemented by a bus of [Board.Bus] that knows whether an address may be used.
type Claimer interface {
	// Claim returns an [*OwnedError] if a kernel driver owns the address. It does not talk to
	// the chip. Call it from the goroutine that calls the bus's Tx.
	Claim(addr uint16) error
}

// OwnedError says that a kernel driver owns an address of a bus; i2cdetect shows it as UU. Anyone
// else who talks to the chip changes its settings behind the driver, which then reads wrong values
// or none. It is an EBUSY.
type OwnedError struct {
	Bus     string // "i2c-1"
	Address uint16
	Driver  string // "tmp102"; "" if the kernel does not say
}

// Error names the driver and says how to unbind it.
func (e *OwnedError) Error() string {
	if e.Driver == "" {
		return fmt.Sprintf("address 0x%02x on %s is used by a kernel driver, on this bus or on one behind it", e.Address, e.Bus)
	}
	return fmt.Sprintf("address 0x%02x on %s is used by the kernel driver %s; to unbind it until the next reboot: echo %s | sudo tee /sys/bus/i2c/drivers/%s/unbind",
		e.Address, e.Bus, e.Driver, deviceName(e.Bus, e.Address), e.Driver)
}

// Unwrap returns EBUSY.
func (e *OwnedError) Unwrap() error { return syscall.EBUSY }

// deviceName is the kernel's name of a device on a bus: "1-0048".
func deviceName(bus string, addr uint16) string {
	return fmt.Sprintf("%s-%04x", strings.TrimPrefix(bus, "i2c-"), addr)
}

// KernelDriver returns the name of the kernel driver that owns an address of the bus
// i2c-N, from the links in /sys under root. It returns "" if there is none, or if the
// driver is on a bus behind this one.
func KernelDriver(root, bus string, addr uint16) string {
	target, err := os.Readlink(filepath.Join(root, "sys/bus/i2c/devices", deviceName(bus, addr), "driver"))
	if err != nil {
		return ""
	}
	return filepath.Base(target)
}
