package output

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"fieldpost/daemon/health"
	"fieldpost/sensors/board"
)

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
	CauseStop      = "stop"         // the daemon stops
)

// why is the cause of a change: what, and the id of the order behind it, if any.
type why struct{ cause, id string }

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
