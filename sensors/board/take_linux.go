package board

import (
	"fmt"
	"os"
)

// Take makes an output of a line's handle that [Hold] made, in this process or
// another, without releasing the line: its flags and its level are set anew in
// one call (GPIO_V2_LINE_SET_CONFIG_IOCTL, linux/gpio.h). id is the line that
// the handle is on; c.Line and c.Consumer have no meaning. The output owns the
// file from then on; with an error the caller does.
func (m *Machine) Take(f *os.File, id LineID, c OutputConfig) (Output, error) {
	r, err := outputRequest(id.Offset, c)
	if err != nil {
		return nil, fmt.Errorf("take over line %s: %w", id, err)
	}
	if err := m.kernel.configure(f, r.Config); err != nil {
		return nil, fmt.Errorf("take over line %s: %w", id, err)
	}
	return &outputLine{id: id, kernel: m.kernel, file: f}, nil
}
