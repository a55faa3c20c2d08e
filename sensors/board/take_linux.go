package board

import (
	"fmt"
	"os"
)

// Take makes an output from a line's handle that [Hold] made in this process or another.
// It does not release the line: it sets flags and level in one call
// (GPIO_V2_LINE_SET_CONFIG_IOCTL, linux/gpio.h). id is the handle's line; c.Line and
// c.Consumer are ignored. With c.Keep the logical level stays. The output owns the file
// unless Take returns an error.
func (m *Machine) Take(f *os.File, id LineID, c OutputConfig) (Output, error) {
	o, err := m.take(f, id, c)
	if err != nil {
		return nil, err
	}
	return o, nil
}

func (m *Machine) take(f *os.File, id LineID, c OutputConfig) (*outputLine, error) {
	if c.Keep {
		level, err := m.kernel.get(f)
		if err != nil {
			return nil, fmt.Errorf("read level of line %s: %w", id, err)
		}
		c.Active = level.Bits&1 != 0
	}
	r, err := outputRequest(id.Offset, c)
	if err != nil {
		return nil, fmt.Errorf("take over line %s: %w", id, err)
	}
	if err := m.kernel.configure(f, r.Config); err != nil {
		return nil, fmt.Errorf("take over line %s: %w", id, err)
	}
	return &outputLine{m: m, id: id, c: c, file: f}, nil
}
