package board

import (
	"errors"
	"fmt"
	"os"
)

// Hold requests a line as an output and returns the kernel's handle on it. While the
// handle or a copy of it is open, in any process, the line is driven at c.Active, or with
// c.Keep at the level it had. So systemd's file descriptor store can keep the line driven
// after this process has ended. Errors are as for [Board].Output.
//
// It registers nothing with periph.
func Hold(c OutputConfig) (*os.File, error) {
	return (&Machine{dev: "/dev", kernel: charDev{}}).hold(c)
}

func (m *Machine) hold(c OutputConfig) (*os.File, error) {
	o, err := m.drive(c)
	if err != nil {
		return nil, err
	}
	if !c.Keep && m.Expander(o.id) != "" {
		if err := o.makeSure(c.Active); err != nil {
			return nil, errors.Join(err, o.Close())
		}
	}
	return o.file, nil
}

// Adopt sets the level of a line through a handle that [Hold] made in this process or
// another. The level is logical, with the active-low flag of the request. The caller
// closes the handle, which releases the line unless a copy is open.
func Adopt(f *os.File, active bool) error { return adopt(charDev{}, f, active) }

func adopt(k gpioKernel, f *os.File, active bool) error {
	if err := k.set(f, values(active)); err != nil {
		return fmt.Errorf("set inherited line %s: %w", f.Name(), err)
	}
	return nil
}
