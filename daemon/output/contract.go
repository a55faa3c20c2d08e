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

// Level is an output's logical level.
type Level bool

// The two levels.
const (
	Off Level = false
	On  Level = true
)

// String gives on or off.
func (l Level) String() string {
	if l {
		return "on"
	}
	return "off"
}

// MarshalText gives on or off.
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

// Safe is what becomes of an output when nobody watches over it.
type Safe uint8

// The ways of being safe.
const (
	SafeOff  Safe = iota // it goes off
	SafeOn               // it goes on
	SafeKeep             // it stays as it is: nobody drives it to any level
)

// Level gives the safe level; ok is false where there is none.
func (s Safe) Level() (l Level, ok bool) { return s == SafeOn, s != SafeKeep }

var safeNames = []string{SafeOff: "off", SafeOn: "on", SafeKeep: "keep"}

// String gives off, on or keep.
func (s Safe) String() string { return enumName(safeNames, s) }

// MarshalText gives off, on or keep.
func (s Safe) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText accepts off, on, keep, and true and false.
func (s *Safe) UnmarshalText(b []byte) error { return parseEnum(safeNames, b, s) }

// Initial is the level with which a line is requested.
type Initial uint8

// The initial levels.
const (
	InitialOff  Initial = iota // off
	InitialOn                  // on
	InitialLast                // what the output was when the run before ended
	InitialKeep                // what the line is when it is requested
)

var initialNames = []string{InitialOff: "off", InitialOn: "on", InitialLast: "last", InitialKeep: "keep"}

// String gives off, on, last or keep.
func (i Initial) String() string { return enumName(initialNames, i) }

// MarshalText gives off, on, last or keep.
func (i Initial) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

// UnmarshalText accepts off, on, last, keep, and true and false.
func (i *Initial) UnmarshalText(b []byte) error { return parseEnum(initialNames, b, i) }

func enumName[T ~uint8](names []string, v T) string {
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("unknown level %d", v)
}

// parseEnum takes one of the names, the first two of which are off and on.
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

// Causes of a change. An order's change has the order's own, "mqtt" or
// "local" say.
const (
	CauseOrder     = "order"        // an order that did not say from where it came
	CauseInitial   = "initial"      // the line was requested
	CauseForEnded  = "for_ended"    // the time an order gave is over
	CausePulse     = "pulse_ended"  // the pulse is over
	CauseMaxOn     = "max_on"       // it was on for as long as it may be
	CauseLinkLost  = "link_lost"    // the link was down for safe_after
	CauseRefresh   = "refresh_lost" // no order came for refresh
	CauseInterlock = "interlock"    // the line was found away from safe, and so was one it is interlocked with
	CauseFailed    = "failed"       // the line did not take its level, and was made safe
	CauseRemoved   = "removed"      // a reload took the output out, or changed its line
	CauseStop      = "stop"         // the daemon stops
)

// why is the cause of a change: what, and the id of the order behind it, if any.
type why struct{ cause, id string }

// outlivesRun reports whether a level with this cause is the output's own, which
// initial: last gives it again at the next start: not the safe level of an end, nor
// the level that the start itself gave.
func (w why) outlivesRun() bool {
	return w.cause != CauseStop && w.cause != CauseInitial && w.cause != CauseRemoved
}

// State is one output as it is now.
type State struct {
	Name  string
	Level Level     // the level it had when it was last driven or read back
	Since time.Time // since when it has that level; zero when the line was never ours
	Cause string    // who or what gave it that level
	Order string    // the id of the order behind it; may be empty
	Trips uint64    // how often it was made safe because no order came for its refresh, since [Open]
	Err   error     // why the line cannot be driven or trusted now; Level may then be wrong
}

// By says in words who or what gave the output its level: "mqtt order c-81",
// "max_on".
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
	// ErrEnergises is the reason when an order that was to lead to the safe level does
	// not any more, because a reload has changed that level. Nothing was done.
	ErrEnergises = errors.New("energises since the configuration was reloaded")
)

// FailedError says that a line could not be given its level.
type FailedError struct {
	Output string
	Err    error
}

// Error names the output and why.
func (e *FailedError) Error() string { return fmt.Sprintf("drive output %q: %v", e.Output, e.Err) }

// Unwrap gives why.
func (e *FailedError) Unwrap() error { return e.Err }

// TooSoonError says that an output has to keep its level for a while yet.
type TooSoonError struct {
	Output string
	Level  Level         // which it has
	Left   time.Duration // for how long yet; 0 where an order to the safe level waits for min_on or min_off
}

// Error says which level, for how long and why.
func (e *TooSoonError) Error() string {
	why := "min_off"
	if e.Level == On {
		why = "min_on"
	}
	if e.Left == 0 {
		return fmt.Sprintf("output %q stays %s until its %s is over, and then goes to its safe level by an order that waits", e.Output, e.Level, why)
	}
	left := (e.Left + time.Second - 1).Truncate(time.Second) // when it is over for sure
	return fmt.Sprintf("output %q stays %s for another %s, by its %s", e.Output, e.Level, left, why)
}

// lineFaults are the faults that a line that is ours disproves.
var lineFaults = health.Codes(health.Line)

// faultOf names what keeps a line from being requested.
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
