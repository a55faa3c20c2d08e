package output

import (
	"time"

	"fieldpost/sensors/board"
)

// Config is one entry of the configuration's outputs.
type Config struct {
	// Name is the user's name for the output, unique among sensors and outputs.
	Name string `yaml:"name"`
	// Pin is the GPIO line.
	Pin string `yaml:"pin"`
	// ActiveLow makes the low level "on".
	ActiveLow bool `yaml:"active_low"`
	// Drive is how the line is driven.
	Drive board.Drive `yaml:"drive"`
	// Initial is the level from the moment the line is requested; what Safe
	// says unless given.
	Initial Initial `yaml:"initial"`
	// Safe is the level on stop, crash, hang and lost link.
	Safe Safe `yaml:"safe"`
	// SafeAfter is how long the link may be down before the output is made
	// safe; 0 is for ever.
	SafeAfter time.Duration `yaml:"safe_after"`
	// Refresh is how long the output may be away from its safe level without an
	// order being carried out for it, before it is made safe; 0 is for ever. It
	// makes no sense with Safe keep, and is refused there.
	Refresh time.Duration `yaml:"refresh"`
	// MaxOn is the longest the output may be on before it is switched off; 0
	// is for ever. It makes no sense with Safe on, and is refused there.
	MaxOn time.Duration `yaml:"max_on"`
	// MinOn is the shortest the output stays on once it is.
	MinOn time.Duration `yaml:"min_on"`
	// MinOff is the shortest it stays off once it is; after a start, from then.
	MinOff time.Duration `yaml:"min_off"`
	// Interlock names outputs that may not be away from their safe levels at
	// the same time as this one. It is enough that one of the two names the other.
	Interlock []string `yaml:"interlock"`
}

// Begins is the level at which the line is requested at the first start, as far
// as the configuration tells; ok is false where it keeps the one that it has.
func (c Config) Begins() (level Level, ok bool) {
	safe, has := c.Safe.Level()
	if c.Initial == InitialKeep || c.Initial == InitialLast {
		return safe, has
	}
	level = c.Initial == InitialOn
	wait := c.MinOff
	if !level {
		wait = c.MinOn
	}
	if wait > 0 && (!has || level != safe) {
		return safe, has
	}
	return level, true
}
