package daemon

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"fieldpost/daemon/output"
	"fieldpost/daemon/systemd"
	"fieldpost/sensors/board"
)

// MakeSafe drives every line of the crash record at path to its safe level and
// hands the lines to systemd, so that they stay driven; it prints what it did
// to w. It reads no configuration. Started without systemd it can only drive
// the lines and let go of them, and says so.
func MakeSafe(path string, w io.Writer) error {
	handles, err := output.MakeSafe(path, board.Hold)
	names, files := make([]string, len(handles)), make([]*os.File, len(handles))
	for i, h := range handles {
		names[i], files[i] = h.Name(), h.File
		defer h.File.Close()
		fmt.Fprintf(w, "%s is %s\n", h.Line, h.Line.Safe)
	}
	if len(handles) == 0 {
		return err
	}
	if os.Getenv("NOTIFY_SOCKET") == "" {
		fmt.Fprintln(w, "released again: only systemd can keep the lines driven (ExecStopPost=fieldpost safe)")
		return err
	}
	if stored := systemd.StoreHandles(names, files); stored != nil {
		return errors.Join(err, fmt.Errorf("keep lines driven: %w", stored))
	}
	return errors.Join(err, output.MarkHeld(path, handles))
}

// TakeOver drives the lines of the run before safe and holds them, until New
// is given the result. It is the first thing a start does. What fails is
// logged: a start must not end because a line was lost.
func TakeOver(path string, log *slog.Logger) *output.Held {
	held, err := output.TakeOver(output.Inheritance{
		Record: path, Handles: systemd.InheritedHandles(),
		Hold: board.Hold, Adopt: board.Adopt, Remove: systemd.RemoveHandle,
	})
	if err != nil {
		log.Error("lines of the run before", "err", err)
	}
	return held
}
