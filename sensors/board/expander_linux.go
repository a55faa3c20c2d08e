package board

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/warthog618/go-gpiocdev/uapi"
	"golang.org/x/sys/unix"
)

var _ Expander = (*Machine)(nil)

// Expander returns the kernel's name of the expander that has the line: the I2C or SPI
// device right above its chip in /sys, or the nearest USB device further up.
func (m *Machine) Expander(id LineID) string {
	dir, err := filepath.EvalSymlinks(filepath.Join(m.root, "sys/bus/gpio/devices", id.Chip))
	if err != nil {
		return ""
	}
	nearest := true
	for dir = filepath.Dir(dir); filepath.Base(dir) != "devices" && len(dir) > 1; dir = filepath.Dir(dir) {
		subsystem, err := os.Readlink(filepath.Join(dir, "subsystem"))
		if err != nil {
			continue
		}
		switch s := filepath.Base(subsystem); {
		case nearest && (s == "i2c" || s == "spi"):
			return filepath.Base(dir)
		case s == "usb":
			return "usb " + filepath.Base(dir)
		}
		nearest = false
	}
	return ""
}

// Restore drives the line at that level; see [Restorer]. A level that differs from the
// kernel's copy is certainly written to the chip, and so is a direction. The copy of a
// chip that lost its power says that the line is an output, but the chip made it an
// input.
func (o *outputLine) Restore(active bool) error {
	for _, level := range []bool{!active, active} {
		if err := o.Set(level); err != nil {
			return err
		}
	}
	if got, err := o.Active(); err != nil || got == active {
		return err
	}
	return o.Redrive(active)
}

// Drive makes the line an output at that level; see [Restorer].
func (o *outputLine) Drive(active bool) error { return o.configure(active) }

// Redrive makes the line an input and then an output; see [Restorer].
func (o *outputLine) Redrive(active bool) error {
	input := uapi.LineConfig{Flags: uapi.LineFlagV2Input}
	if o.c.ActiveLow {
		input.Flags |= uapi.LineFlagV2ActiveLow
	}
	if err := o.m.kernel.configure(o.file, input); err != nil {
		return lineError("restore", o.id, err)
	}
	o.undriven.Store(true)
	return o.configure(active)
}

// makeSure reads the level of an expander's line back, and restores it if it is another.
func (o *outputLine) makeSure(active bool) error {
	if err := o.Answers(); err != nil {
		return err
	}
	got, err := o.Active()
	if err != nil || got == active {
		return err
	}
	if err := o.Restore(active); err != nil {
		return err
	}
	if got, err = o.Active(); err == nil && got != active {
		err = fmt.Errorf("line %s reads back another level than was set", o.id)
	}
	return err
}

// configure makes the line an output at that level.
func (o *outputLine) configure(active bool) error {
	c := o.c
	c.Active = active
	r, err := outputRequest(o.id.Offset, c)
	if err != nil {
		return err
	}
	if err := o.m.kernel.configure(o.file, r.Config); err != nil {
		return lineError("restore", o.id, err)
	}
	o.undriven.Store(false)
	return nil
}

// Answers reads one byte from the expander, without choosing a register: the kernel's
// driver chooses one in each of its own transactions. A chip on SPI cannot be asked, and one
// on USB need not be: the kernel knows whether it is there.
func (o *outputLine) Answers() error {
	bus, addr, ok := i2cPlace(o.m.Expander(o.id))
	if !ok {
		return nil
	}
	b, err := openI2C(o.m.dev, o.m.root, bus)
	if err != nil {
		return nil // without i2c-dev, or the right to use it
	}
	err = b.ping(addr)
	return errors.Join(err, b.Close())
}

// i2cPlace parses the kernel's name of a device on an I2C bus: 1-0020 is 0x20 on i2c-1.
func i2cPlace(device string) (bus string, addr uint16, ok bool) {
	number, address, ok := strings.Cut(device, "-")
	n, err := strconv.ParseUint(address, 16, 16)
	if !ok || !isNumber(number) || err != nil || n > LastAddress {
		return "", 0, false
	}
	return "i2c-" + number, uint16(n), true
}

// ping reads one byte from an address, whoever owns it. It returns nil if the adapter
// cannot do that.
func (b *i2cBus) ping(addr uint16) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.file == nil || b.funcs&funcI2C == 0 {
		return nil
	}
	err := b.plain(addr, nil, make([]byte, 1))
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("ask the line's chip: %w", b.explain(addr, err))
	}
	return nil
}
