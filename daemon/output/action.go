package output

import (
	"errors"
	"fmt"
	"time"
)

// Action is what an order asks of an output.
type Action string

// The actions.
const (
	ActionOn     Action = "on"     // the level on
	ActionOff    Action = "off"    // the level off
	ActionToggle Action = "toggle" // the level it does not have now
	ActionPulse  Action = "pulse"  // away from the level it rests at, for a while
)

// DefaultPulse is how long a pulse lasts that does not say.
const DefaultPulse = 500 * time.Millisecond

// ErrAction is the reason when an action is not one of the four.
var ErrAction = errors.New("unknown action")

// ParseAction gives the action of that name; the error wraps [ErrAction].
func ParseAction(s string) (Action, error) {
	switch a := Action(s); a {
	case ActionOn, ActionOff, ActionToggle, ActionPulse:
		return a, nil
	}
	return "", fmt.Errorf("%w %q: want on, off, toggle or pulse", ErrAction, s)
}

// Energises reports whether the action asks for any level but the safe one.
// Where there is no safe level it does always; and a toggle does always,
// because what it asks for depends on when it acts.
func (a Action) Energises(safe Safe) bool {
	switch a {
	case ActionOn:
		return safe != SafeOn
	case ActionOff:
		return safe != SafeOff
	}
	return true
}

// target is the level the action asks for, of an output that is now so and
// rests at rest.
func (a Action) target(now, rest Level) Level {
	switch a {
	case ActionOn:
		return On
	case ActionOff:
		return Off
	case ActionToggle:
		return !now
	}
	return !rest
}
