package output

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"fieldpost/daemon/health"
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
	// Initial is the level from the moment the line is requested. The default is that of
	// Safe.
	Initial Initial `yaml:"initial"`
	// Safe is the level on stop, crash, hang and lost link.
	Safe Safe `yaml:"safe"`
	// SafeAfter is how long the link may be down before the output is made safe; 0 means
	// for ever.
	SafeAfter time.Duration `yaml:"safe_after"`
	// Refresh is how long the output may be away from its safe level without an order
	// that is carried out, before it is made safe; 0 means for ever. It is refused with
	// Safe keep.
	Refresh time.Duration `yaml:"refresh"`
	// MaxOn is how long the output may be on before it is switched off; 0 means for ever.
	// It is refused with Safe on.
	MaxOn time.Duration `yaml:"max_on"`
	// MinOn is the shortest time that the output stays on.
	MinOn time.Duration `yaml:"min_on"`
	// MinOff is the shortest time that it stays off. It also counts from the start of the
	// daemon.
	MinOff time.Duration `yaml:"min_off"`
	// Interlock names outputs that must not be away from their safe levels at the same
	// time as this one. One of the two has to name the other.
	Interlock []string `yaml:"interlock"`
}

// Begins returns the level at which the line is requested at the first start. ok is false
// if the line keeps its level.
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

// Level is an output's logical level.
type Level bool

// The two levels.
const (
	Off Level = false
	On  Level = true
)

// String returns on or off.
func (l Level) String() string {
	if l {
		return "on"
	}
	return "off"
}

// MarshalText returns on or off.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText accepts on, off, true and false.
func (l *Level) UnmarshalText(b []byte) error {
	switch string(b) {
	case "on", "true":
		*l = On
	case "off", "false":
		*l = Off
	default:
		return errors.New("want on or off")
	}
	return nil
}

// Safe is what happens to an output on stop, crash, hang and lost link.
type Safe uint8

// The safe levels.
const (
	SafeOff  Safe = iota // the output goes off
	SafeOn               // the output goes on
	SafeKeep             // the output stays as it is
)

// Level returns the safe level; ok is false for keep.
func (s Safe) Level() (l Level, ok bool) { return s == SafeOn, s != SafeKeep }

var safeNames = []string{SafeOff: "off", SafeOn: "on", SafeKeep: "keep"}

// String returns off, on or keep.
func (s Safe) String() string { return enumName(safeNames, s) }

// MarshalText returns off, on or keep.
func (s Safe) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText accepts off, on, keep, and true and false.
func (s *Safe) UnmarshalText(b []byte) error { return parseEnum(safeNames, b, s) }

// Initial is the level with which a line is requested.
type Initial uint8

// The initial levels.
const (
	InitialOff  Initial = iota // off
	InitialOn                  // on
	InitialLast                // the output's level when the last run ended
	InitialKeep                // the line's level when it is requested
)

var initialNames = []string{InitialOff: "off", InitialOn: "on", InitialLast: "last", InitialKeep: "keep"}

// String returns off, on, last or keep.
func (i Initial) String() string { return enumName(initialNames, i) }

// MarshalText returns off, on, last or keep.
func (i Initial) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

// UnmarshalText accepts off, on, last, keep, and true and false.
func (i *Initial) UnmarshalText(b []byte) error { return parseEnum(initialNames, b, i) }

func enumName[T ~uint8](names []string, v T) string {
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("unknown level %d", v)
}

// parseEnum parses one of the names. The first two are off and on.
func parseEnum[T ~uint8](names []string, b []byte, v *T) error {
	text := string(b)
	switch text {
	case "false":
		text = "off"
	case "true":
		text = "on"
	}
	for i, n := range names {
		if n == text {
			*v = T(i)
			return nil
		}
	}
	if len(names) == 3 {
		return errors.New("want off, on or keep")
	}
	return errors.New("want off, on, last or keep")
}

// Action is what an order does with an output.
type Action string

// The actions.
const (
	ActionOn     Action = "on"     // the level on
	ActionOff    Action = "off"    // the level off
	ActionToggle Action = "toggle" // the level it does not have now
	ActionPulse  Action = "pulse"  // the other level than the resting one, for a while
)

// DefaultPulse is the length of a pulse without a duration.
const DefaultPulse = 500 * time.Millisecond

// ErrAction is the reason when an action is not one of the four.
var ErrAction = errors.New("unknown action")

// ParseAction returns the action of that name. The error wraps [ErrAction].
func ParseAction(s string) (Action, error) {
	switch a := Action(s); a {
	case ActionOn, ActionOff, ActionToggle, ActionPulse:
		return a, nil
	}
	return "", fmt.Errorf("%w %q: want on, off, toggle or pulse", ErrAction, s)
}

// Energises reports whether the action leads to another level than the safe one. It is
// always true without a safe level, and for toggle, whose level depends on when it acts.
func (a Action) Energises(safe Safe) bool {
	switch a {
	case ActionOn:
		return safe != SafeOn
	case ActionOff:
		return safe != SafeOff
	}
	return true
}

// target returns the action's level for an output with the levels now and, at rest, rest.
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

// Causes of a change. A change by an order has the order's cause, such as "mqtt" or
// "local".
const (
	CauseOrder     = "order"        // an order without a cause
	CauseInitial   = "initial"      // the line was requested
	CauseForEnded  = "for_ended"    // the duration of an order has ended
	CausePulse     = "pulse_ended"  // the pulse has ended
	CauseMaxOn     = "max_on"       // it was on for max_on
	CauseLinkLost  = "link_lost"    // the link was down for safe_after
	CauseRefresh   = "refresh_lost" // no order came within refresh
	CauseInterlock = "interlock"    // the line and an interlocked one were found away from their safe levels
	CauseLevelLost = "level_lost"   // the line was found at another level, and was made safe
	CauseFailed    = "failed"       // the line did not take its level, and was made safe
	CauseRemoved   = "removed"      // a reload removed the output, or changed its line
	CauseStop      = "stop"         // the daemon stops
)

// why is the cause of a change, and the id of its order if there is one.
type why struct{ cause, id string }

// outlivesRun reports whether initial: last restores a level with this cause at the next
// start. It does not restore the safe level of a stop, nor the initial level.
func (w why) outlivesRun() bool {
	return w.cause != CauseStop && w.cause != CauseInitial && w.cause != CauseRemoved
}

// State is the present state of an output.
type State struct {
	Name  string
	Level Level     // the level when it was last driven or read back
	Since time.Time // since when it has that level; zero if the line was never requested
	Cause string    // what caused that level
	Order string    // the id of the order that caused it; may be empty
	Trips uint64    // how often it was made safe because no order came within refresh, since [Open]
	Err   error     // why the line cannot be driven or trusted now; Level may then be wrong
}

// By describes what caused the level: "mqtt order c-81", "max_on".
func (s State) By() string {
	if s.Order == "" || s.Cause == "" {
		return s.Cause
	}
	return s.Cause + " order " + s.Order
}

// Errors of [Bank.Do] besides [ErrAction], [ErrExpired] and [FailedError].
var (
	ErrUnknown = errors.New("unknown output")
	ErrStopped = errors.New("outputs are stopped, at their safe levels")
	// ErrEnergises is the reason when an order was accepted because it leads to the safe
	// level, and a reload has changed that level. Nothing was done.
	ErrEnergises = errors.New("energises since the configuration was reloaded")
)

// FailedError says that a line could not be given its level.
type FailedError struct {
	Output string
	Err    error
}

// Error names the output and why.
func (e *FailedError) Error() string { return fmt.Sprintf("drive output %q: %v", e.Output, e.Err) }

// Unwrap returns the reason.
func (e *FailedError) Unwrap() error { return e.Err }

// TooSoonError says that an output must keep its level for some more time.
type TooSoonError struct {
	Output string
	Level  Level         // its present level
	Left   time.Duration // for how long; 0 if an order to the safe level waits for min_on or min_off
}

// Error names the level, the time and the reason.
func (e *TooSoonError) Error() string {
	why := "min_off"
	if e.Level == On {
		why = "min_on"
	}
	if e.Left == 0 {
		return fmt.Sprintf("output %q stays %s until its %s is over, and then goes to its safe level by an order that waits", e.Output, e.Level, why)
	}
	left := (e.Left + time.Second - 1).Truncate(time.Second) // rounded up
	return fmt.Sprintf("output %q stays %s for another %s, by its %s", e.Output, e.Level, left, why)
}

// lineFaults are the faults that a successful request of a line clears.
var lineFaults = health.Codes(health.Line)

// faultOf returns the fault of an error of a request.
func faultOf(err error) health.Code {
	var busy *board.BusyError
	switch {
	case errors.As(err, &busy):
		return health.LineBusy
	case errors.Is(err, board.ErrAbsent):
		return health.Absent
	case errors.Is(err, fs.ErrPermission):
		return health.Denied
	}
	return health.OutputFailed
}
