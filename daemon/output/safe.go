package output

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"fieldpost/sensors/board"
)

// Handle is an open handle on a line that is driven at its safe level for as
// long as the handle, or a copy of it, is open.
type Handle struct {
	Line Line
	File *os.File
}

// Name is the name under which systemd keeps the handle, such as
// "safe-pump@pinctrl-bcm2711.27". It says which line it is, so that a handle
// can be told without the record it was made from. systemd takes printable
// ASCII without a colon, 255 characters at most (sd_notify(3), FDNAME).
func (h Handle) Name() string {
	const most = 255
	place := lineKey(h.Line.ID())
	name := printable(handlePrefix + h.Line.Output)
	return name[:min(len(name), max(0, most-1-len(place)))] + "@" + place
}

// handlePrefix begins the names of our handles.
const handlePrefix = "safe-"

// lineKey names a line as in the name of its handle. No chip's label is
// longer than 31 bytes (GPIO_MAX_NAME_SIZE of linux/gpio.h less its final NUL).
func lineKey(id board.LineID) string { return printable(fmt.Sprintf("%s.%d", id.Label, id.Offset)) }

// handleKey is the line's key in the name of a handle; ok is false where the
// name is not one of ours.
func handleKey(name string) (key string, ok bool) {
	if !strings.HasPrefix(name, handlePrefix) {
		return "", false
	}
	i := strings.LastIndexByte(name, '@')
	return name[i+1:], i >= 0
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' || r == ':' || r == '@' {
			return '_'
		}
		return r
	}, s)
}

// MakeSafe drives every line of the crash record at path safe. hold requests
// one line at the level of its configuration and gives the handle; see
// package board. Handles come back open, for the caller to keep or to hand
// on; the line is driven until they are closed.
//
// It goes on after an error, which names each line it could not make safe. A
// line that is held by a handle it gave to systemd before ([MarkHeld]) is
// safe, and no error. No record is no error: no line was ever requested.
func MakeSafe(path string, hold func(board.OutputConfig) (*os.File, error)) ([]Handle, error) {
	lines, err := Recorded(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	errs := []error{err}
	var handles []Handle
	for _, l := range lines {
		f, err := hold(l.Config())
		var busy *board.BusyError
		switch {
		case err == nil:
			handles = append(handles, Handle{l, f})
		case errors.As(err, &busy) && l.Held:
		case errors.As(err, &busy):
			errs = append(errs, fmt.Errorf("make %s safe: %w\nif that is the daemon, stop it: it makes its lines safe itself", l, err))
		default:
			errs = append(errs, fmt.Errorf("make %s safe: %w", l, err))
		}
	}
	return handles, errors.Join(errs...)
}

// MarkHeld notes in the crash record at path that systemd keeps these handles,
// so that the next [MakeSafe] knows by whom those lines are held. The next
// start of the daemon rewrites the record, without the mark.
func MarkHeld(path string, handles []Handle) error {
	lines, err := Recorded(path)
	if err != nil {
		return err
	}
	for i, l := range lines {
		for _, h := range handles {
			if h.Line.Label == l.Label && h.Line.Offset == l.Offset {
				lines[i].Held = true
			}
		}
	}
	return writeRecord(path, lines)
}
