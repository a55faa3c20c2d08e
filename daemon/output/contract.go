package output

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strconv"
	"strings"
	"time"

	"fieldpost/daemon/health"
	"fieldpost/sensors/board"
)

// Config is one entry of the configuration's outputs.
type Config struct {
	// Name is the user's name for the output, unique among sensors and outputs.
	Name string `yaml:"name"`
	// Pin is the GPIO line; "" if PWM is set.
	Pin string `yaml:"pin"`
	// PWM is the PWM channel: the kernel's name of its chip or of the chip's device, and the
	// channel. An output on it has a level from 0 to 100 %.
	PWM string `yaml:"pwm"`
	// Frequency is that of the PWM output.
	Frequency Frequency `yaml:"frequency"`
	// Ramp is how long a PWM output takes from 0 to 100 %, or for less than that a part of it.
	// Going to the safe level takes no time. 0: no change takes any.
	Ramp time.Duration `yaml:"ramp"`
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
	level = Level(c.Initial)
	wait := c.MinOff
	if level == Off {
		wait = c.MinOn
	}
	if wait > 0 && (!has || level != safe) {
		return safe, has
	}
	return level, true
}

// Level is an output's logical level, in hundredths of a percent. Only PWM outputs have
// levels between Off and On.
type Level uint16

// The two levels of a line.
const (
	Off Level = 0
	On  Level = 100 * 100
)

// LevelOf returns On or Off.
func LevelOf(on bool) Level {
	if on {
		return On
	}
	return Off
}

// Percent returns the level of a percentage. ok is false if that is not from 0 to 100 with
// two decimals at most.
func Percent(p float64) (l Level, ok bool) {
	scaled := math.Round(p * 100)
	if !(p >= 0 && p <= 100) || math.Abs(scaled-p*100) > 1e-6 {
		return Off, false
	}
	return Level(scaled), true
}

// Percent returns the level as a percentage.
func (l Level) Percent() float64 { return float64(l) / 100 }

// Word returns off, or on for every other level.
func (l Level) Word() string { return LevelOf(l != Off).String() }

// opposite returns On for Off, and Off for every other level.
func (l Level) opposite() Level { return LevelOf(l == Off) }

// String returns on, off, or a percentage: "40%", "12.5%".
func (l Level) String() string {
	switch l {
	case Off:
		return "off"
	case On:
		return "on"
	}
	return strconv.FormatFloat(l.Percent(), 'f', -1, 64) + "%"
}

// MarshalText returns what String does.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText accepts on, off, true, false, and a percentage.
func (l *Level) UnmarshalText(b []byte) error {
	switch text := string(b); text {
	case "on", "true":
		*l = On
	case "off", "false":
		*l = Off
	default:
		p, ok := parsePercent(text)
		if !ok {
			return errors.New("want on, off or a percentage such as 40%")
		}
		*l = p
	}
	return nil
}

// parsePercent parses a percentage with its sign.
func parsePercent(text string) (Level, bool) {
	number, percent := strings.CutSuffix(text, "%")
	p, err := strconv.ParseFloat(number, 64)
	if !percent || err != nil || strings.Trim(number, "0123456789.") != "" {
		return Off, false
	}
	return Percent(p)
}

// Safe is what happens to an output on stop, crash, hang and lost link.
type Safe uint16

// The safe levels. Those of PWM outputs may be in between: Safe(l) is the level l.
const (
	SafeOff  Safe = Safe(Off) // the output goes off
	SafeOn   Safe = Safe(On)  // the output goes on
	SafeKeep Safe = 1 << 15   // the output stays as it is
)

// Level returns the safe level; ok is false for keep.
func (s Safe) Level() (l Level, ok bool) {
	if s == SafeKeep {
		return Off, false
	}
	return Level(s), true
}

var safeNames = map[Safe]string{SafeKeep: "keep"}

// String returns off, on, keep or a percentage.
func (s Safe) String() string { return levelName(safeNames, s) }

// MarshalText returns what String does.
func (s Safe) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText accepts off, on, keep, a percentage, and true and false.
func (s *Safe) UnmarshalText(b []byte) error {
	if !parseLevel(safeNames, b, s) {
		return wantLevel("off, on or keep", b)
	}
	return nil
}

// Initial is the level with which a line is requested.
type Initial uint16

// The initial levels. Those of PWM outputs may be in between: Initial(l) is the level l.
const (
	InitialOff  Initial = Initial(Off) // off
	InitialOn   Initial = Initial(On)  // on
	InitialLast Initial = 1 << 14      // the output's level when the last run ended
	InitialKeep Initial = 1 << 15      // the line's level when it is requested
)

var initialNames = map[Initial]string{InitialLast: "last", InitialKeep: "keep"}

// String returns off, on, last, keep or a percentage.
func (i Initial) String() string { return levelName(initialNames, i) }

// MarshalText returns what String does.
func (i Initial) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

// UnmarshalText accepts off, on, last, keep, a percentage, and true and false.
func (i *Initial) UnmarshalText(b []byte) error {
	if !parseLevel(initialNames, b, i) {
		return wantLevel("off, on, last or keep", b)
	}
	return nil
}

// levelName returns the name of a level, or of one of the values that are none.
func levelName[T ~uint16](names map[T]string, v T) string {
	if name := names[v]; name != "" {
		return name
	}
	if Level(v) > On {
		return fmt.Sprintf("unknown level %d", v)
	}
	return Level(v).String()
}

// parseLevel parses a level, or one of the names.
func parseLevel[T ~uint16](names map[T]string, b []byte, v *T) bool {
	for x, name := range names {
		if name == string(b) {
			*v = x
			return true
		}
	}
	var l Level
	if l.UnmarshalText(b) != nil {
		return false
	}
	*v = T(l)
	return true
}

// wantLevel is the error of a text that is no level. It speaks of percentages where the text
// may be meant as one.
func wantLevel(words string, text []byte) error {
	if bytes.ContainsAny(text, "0123456789%") {
		return fmt.Errorf("want %s, or for a PWM output a percentage from 0%% to 100%%, such as 40%%", words)
	}
	return errors.New("want " + words)
}

// Frequency is a PWM output's, in Hz.
type Frequency float64

// UnmarshalText accepts a number of Hz or kHz with its unit: "25kHz".
func (f *Frequency) UnmarshalText(b []byte) error {
	number, factor := strings.CutSuffix(string(b), "Hz")
	scale := 1.0
	if k, kilo := strings.CutSuffix(number, "k"); kilo {
		number, scale = k, 1000
	}
	x, err := strconv.ParseFloat(strings.TrimSuffix(number, " "), 64)
	if !factor || err != nil {
		return errors.New("want a frequency with its unit, such as 25kHz or 100Hz")
	}
	*f = Frequency(x * scale)
	return nil
}

// MarshalText returns the frequency in Hz.
func (f Frequency) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// String returns the frequency in Hz: "25000Hz".
func (f Frequency) String() string { return strconv.FormatFloat(float64(f), 'f', -1, 64) + "Hz" }

// Period returns the length of a period.
func (f Frequency) Period() time.Duration {
	if f <= 0 {
		return 0
	}
	return time.Duration(math.Round(float64(time.Second) / float64(f)))
}

// Action is what an order does with an output.
type Action string

// The actions.
const (
	ActionOn     Action = "on"     // the level on
	ActionOff    Action = "off"    // the level off
	ActionToggle Action = "toggle" // the level it does not have now
	ActionSet    Action = "set"    // the level of the order, for PWM outputs
	ActionPulse  Action = "pulse"  // the other level than the resting one, for a while
)

// DefaultPulse is the length of a pulse without a duration.
const DefaultPulse = 500 * time.Millisecond

// ErrAction is the reason when an action is not one of the five.
var ErrAction = errors.New("unknown action")

// ParseAction returns the action of that name. The error wraps [ErrAction].
func ParseAction(s string) (Action, error) {
	switch a := Action(s); a {
	case ActionOn, ActionOff, ActionToggle, ActionPulse, ActionSet:
		return a, nil
	}
	return "", fmt.Errorf("%w %q: want on, off, toggle, pulse or set", ErrAction, s)
}

// Energises reports whether the action leads to another level than the safe one. It is
// always true without a safe level, and for toggle, whose level depends on when it acts.
//
// level is that of set, and ignored for the others.
func (a Action) Energises(safe Safe, level Level) bool {
	switch a {
	case ActionSet:
		return safe != Safe(level)
	case ActionOn:
		return safe != SafeOn
	case ActionOff:
		return safe != SafeOff
	}
	return true
}

// target returns the action's level for an output with the levels now and, at rest, rest.
// level is that of set.
func (a Action) target(now, rest, level Level) Level {
	switch a {
	case ActionSet:
		return level
	case ActionOn:
		return On
	case ActionOff:
		return Off
	case ActionToggle:
		return now.opposite()
	}
	return rest.opposite()
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

// ordered reports whether it is an order's: only a change by an order may be a ramp.
func (w why) ordered() bool {
	switch w.cause {
	case CauseInitial, CauseForEnded, CausePulse, CauseMaxOn, CauseLinkLost, CauseRefresh, CauseInterlock, CauseLevelLost, CauseFailed, CauseRemoved, CauseStop:
		return false
	}
	return true
}

// outlivesRun reports whether initial: last restores a level with this cause at the next
// start. It does not restore the safe level of a stop, nor the initial level.
func (w why) outlivesRun() bool {
	return w.cause != CauseStop && w.cause != CauseInitial && w.cause != CauseRemoved
}

// State is the present state of an output.
type State struct {
	Name  string
	Level Level     // the level when it was last driven or read back; where a ramp leads
	PWM   bool      // it is a PWM output
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
	if e.Level != Off {
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
