package output

import (
	"os"

	"fieldpost/sensors/board"
)

// actuator is what an output drives. Its methods block as long as the kernel does.
type actuator interface {
	// set drives it at a level. If it can, it makes sure that the level is taken.
	set(Level) error
	// prepare has the kernel drive it at a level, and makes sure of nothing.
	prepare(Level)
	// level reads the level back.
	level() (Level, error)
	// release lets go of it. What it does then is the kernel's decision.
	release() error
}

// handleSharer is an actuator whose handle can be copied, as that of a line on Linux.
type handleSharer interface {
	Handle() (*os.File, error)
}

// newActuator returns the actuator of a line. device is the line's expander, or "".
func newActuator(line board.Output, device string) actuator {
	if r, ok := line.(board.Restorer); ok && device != "" {
		return expanderLine{lineActuator{line}, r}
	}
	return lineActuator{line}
}

// lineActuator is a line of the machine.
type lineActuator struct{ line board.Output }

func (a lineActuator) set(l Level) error { return a.line.Set(l != Off) }

func (a lineActuator) prepare(l Level) { _ = a.line.Set(l != Off) } // what fails is noticed by the read back

func (a lineActuator) level() (Level, error) {
	active, err := a.line.Active()
	return LevelOf(active), err
}

func (a lineActuator) release() error { return a.line.Close() }

// Handle returns a copy of the line's handle, or nil if the board has none.
func (a lineActuator) Handle() (*os.File, error) {
	if line, ok := a.line.(handleSharer); ok {
		return line.Handle()
	}
	return nil, nil
}

// expanderLine is a line of an expander. The kernel's driver may not have written the
// level that it was told, and may return a level that it could not read.
type expanderLine struct {
	lineActuator
	chip board.Restorer
}

func (a expanderLine) set(l Level) error {
	if err := a.lineActuator.set(l); err != nil {
		return err
	}
	if got, err := a.lineActuator.level(); err != nil || got == l {
		return err
	}
	return a.chip.Restore(l != Off)
}

// restore sets a level on a line that may be an input.
func (a expanderLine) restore(l Level) error {
	got, err := a.level()
	if err != nil {
		return err
	}
	if err := a.set(l); err != nil || got != l {
		return err
	}
	return a.chip.Redrive(l != Off)
}

func (a expanderLine) level() (Level, error) {
	l, err := a.lineActuator.level()
	if err == nil {
		err = a.chip.Answers()
	}
	return l, err
}
