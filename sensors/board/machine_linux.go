package board

import (
	"fmt"
	"path/filepath"
	"runtime"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/host/v3/distro"
)

// Machine is the machine the program runs on: its I2C buses through i2c-dev,
// its lines through the GPIO character devices. Its methods may be called from
// any goroutine.
type Machine struct {
	dev    string // where the device files are
	root   string // where /sys is
	kernel gpioKernel
	ports  serialPlaces
	notes  []string
}

var (
	_ Board  = (*Machine)(nil)
	_ Holder = (*Machine)(nil)
)

// Open returns the machine, and registers its buses and lines with periph, so that
// periph's drivers run on them. A machine without buses or lines, or one that may not
// open them, is no error here; opening one returns it.
func Open() (*Machine, error) {
	m := &Machine{dev: "/dev", root: "/", kernel: charDev{}}
	m.notes = m.register()
	return m, nil
}

// Root is "/".
func (m *Machine) Root() string { return "/" }

// String returns the model that the machine's device tree names.
func (m *Machine) String() string {
	if model := distro.DTModel(); model != "<unknown>" {
		return model
	}
	return fmt.Sprintf("Linux machine (%s)", runtime.GOARCH)
}

// Notes lists what could not be registered with periph. It matters only to periph's
// drivers.
func (m *Machine) Notes() []string { return m.notes }

// Buses lists the machine's I2C buses, by number: "i2c-1".
func (m *Machine) Buses() []string { return busNames(m.dev) }

// Bus opens the I2C bus that a name means now: i2c-1, 1 or /dev/i2c-1, another link in
// /dev, or the adapter's name or part of it, such as CH341. Opening it limits every
// transaction on the adapter, also those of other programs, to 100 ms. The bus is a
// [Claimer], and refuses a transaction with an address that a kernel driver owns with an
// [*OwnedError].
func (m *Machine) Bus(name string) (i2c.BusCloser, error) {
	b, err := openI2C(m.dev, m.root, name)
	if err != nil {
		return nil, err
	}
	return b, nil
}

// PWM makes a PWM channel as its configuration says, through /sys/class/pwm.
func (m *Machine) PWM(c PWMConfig) (PWM, error) {
	p, err := openPWM(realFiles{}, m.root, c)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// FindPWM returns the PWM channel that a name means; see [ParsePWM].
func (m *Machine) FindPWM(channel string) (LineID, error) { return findPWM(m.root, channel) }

// DrivePWM drives a channel once, as [Board].PWM does. The kernel goes on with it when the
// process has ended. It registers nothing with periph.
func DrivePWM(c PWMConfig) error {
	_, err := openPWM(realFiles{}, "/", c)
	return err
}

// Holder returns who holds a line now.
func (m *Machine) Holder(id LineID) (name string, held bool) {
	c := m.chip(filepath.Join(m.dev, id.Chip))
	if id.Offset >= len(c.Lines) {
		return "", false
	}
	return c.Lines[id.Offset].Holder, c.Lines[id.Offset].Used
}

// Find returns the line that a name means; see [ParseLine]. It refuses a name of several
// lines.
func (m *Machine) Find(line string) (LineID, error) {
	l, err := ParseLine(line)
	if err != nil {
		return LineID{}, err
	}
	return find(m.Chips(), l)
}
