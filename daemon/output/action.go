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
	ActionPulse  Action = "pulse"  // away from safe for a while, then back to safe
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
// A toggle does always, because what it asks for depends on when it acts.
func (a Action) Energises(safe Level) bool {
	switch a {
	case ActionOn:
		return safe != On
	case ActionOff:
		return safe != Off
	}
	return true
}

// target is the level the action asks for.
func (a Action) target(now, safe Level) Level {
	switch a {
	case ActionOn:
		return On
	case ActionOff:
		return Off
	case ActionToggle:
		return !now
	}
	return !safe
}
