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

// Hold drives a line at the level of c, until the file is closed: [board.Hold].
type Hold func(c board.OutputConfig) (*os.File, error)

// DrivePWM drives a PWM channel once, which the kernel goes on with: [board.DrivePWM].
type DrivePWM func(c board.PWMConfig) error

// MakeSafe drives every line of the crash record at path to its safe level and
// hands the lines to systemd, so that they stay driven; it prints what it did
// to w. It reads no configuration. Started without systemd it can only drive
// the lines and let go of them, and says so.
func MakeSafe(path string, hold Hold, drive DrivePWM, w io.Writer) error {
	all, err := output.MakeSafe(path, hold, drive)
	var handles []output.Handle
	for _, h := range all {
		if h.File != nil {
			handles = append(handles, h)
		}
	}
	for _, h := range all {
		defer h.File.Close() // an error for a PWM channel, which has none
		if h.Line.Safe == output.SafeKeep {
			fmt.Fprintf(w, "%s stays as it is\n", h.Line)
			continue
		}
		fmt.Fprintf(w, "%s is %s\n", h.Line, h.Line.Safe)
	}
	if len(handles) == 0 {
		return err
	}
	if !managed() {
		fmt.Fprintln(w, "released again: only systemd can keep the lines driven (ExecStopPost=fieldpost safe)")
		return err
	}
	return errors.Join(err, keepDriven(path, handles))
}

// managed reports whether a service manager listens.
func managed() bool { return os.Getenv("NOTIFY_SOCKET") != "" }

// keepDriven hands lines that are safe to systemd, and notes in the crash
// record at path that it has them.
func keepDriven(path string, handles []output.Handle) error {
	names, files := make([]string, len(handles)), make([]*os.File, len(handles))
	for i, h := range handles {
		names[i], files[i] = h.Name(), h.File
	}
	if err := systemd.StoreHandles(names, files); err != nil {
		return fmt.Errorf("keep lines driven: %w", err)
	}
	return output.MarkHeld(path, handles)
}

// store is how lines are kept that are to stay as they are through a crash:
// systemd has copies of their handles from the start.
func (p *process) store() output.Store {
	if !managed() || p.recordPath() == "" {
		return nil
	}
	return systemd.StoreHandles
}

// keepLines hands the lines to systemd at an orderly end, so that they are not
// let go of for the moment until `fieldpost safe` runs.
func (p *process) keepLines() error {
	if !managed() || p.recordPath() == "" {
		return nil
	}
	handles, err := p.bank.Handles()
	for _, h := range handles {
		defer h.File.Close()
	}
	if len(handles) == 0 {
		return err
	}
	return errors.Join(err, keepDriven(p.recordPath(), handles))
}

// Own makes the crash record at path this process's until free is called. An
// error means that another daemon has it, and that this one must not start. A
// record that nobody can own, because its directory is not there, is only
// logged: it is a fault when it is to be written.
func Own(path string, log *slog.Logger) (free func(), err error) {
	own, err := output.Own(path)
	switch {
	case errors.Is(err, output.ErrOwned):
		return nil, err
	case err != nil:
		log.Warn("a second daemon would not be noticed", "err", err)
		return func() {}, nil
	}
	return func() { _ = own.Close() }, nil
}

// TakeOver drives the lines of the run before safe and holds them, until New
// is given the result. It is the first thing a start does. What fails is
// logged: a start must not end because a line was lost.
func TakeOver(path string, hold Hold, drive DrivePWM, log *slog.Logger) *output.Held {
	held, err := output.TakeOver(output.Inheritance{
		Record: path, Handles: systemd.InheritedHandles(),
		Hold: hold, Drive: drive, Adopt: board.Adopt, Remove: systemd.RemoveHandle,
	})
	if err != nil {
		log.Error("cannot take over the lines of the last run", "err", err)
	}
	return held
}
