package output

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"fieldpost/daemon/health"
	"fieldpost/sensors/board"
)

// Causes of a change that no order made at its own instant.
const (
	CauseInitial  = "initial"     // the line was requested
	CauseForEnded = "for_ended"   // the time an order gave is over
	CausePulse    = "pulse_ended" // the pulse is over
	CauseMaxOn    = "max_on"      // it was on for as long as it may be
	CauseLinkLost = "link_lost"   // the link was down for safe_after
	CauseFailed   = "failed"      // the line did not take its level, and was made safe
	CauseStop     = "stop"        // the daemon stops
)

// State is one output as it is now.
type State struct {
	Name  string
	Level Level     // the level it had when it was last driven or read back
	Since time.Time // since when it has that level; zero when the line was never ours
	Cause string    // who or what gave it that level
	Err   error     // why the line cannot be driven or trusted now; Level may then be wrong
}

// Errors of [Bank.Do] besides [ErrAction] and [FailedError].
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
