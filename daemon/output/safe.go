package output

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"fieldpost/sensors/board"
)

// Handle is an open handle on a line. The line is driven at its safe level while the
// handle, or a copy of it, is open.
type Handle struct {
	Line Line
	File *os.File
}

// Name is the name under which systemd keeps the handle, such as
// "safe-pump@pinctrl-bcm2711.27". It contains the line, so that a handle can be
// identified without the record. systemd accepts printable ASCII without a colon, at most
// 255 characters (sd_notify(3), FDNAME).
func (h Handle) Name() string {
	const most = 255
	place := lineKey(h.Line.ID())
	name := printable(handlePrefix + h.Line.Output)
	return name[:min(len(name), max(0, most-1-len(place)))] + "@" + place
}

// handlePrefix is the prefix of our handles' names.
const handlePrefix = "safe-"

// lineKey returns the key of a line in the name of its handle. A chip's label has at most
// 31 bytes (GPIO_MAX_NAME_SIZE of linux/gpio.h minus its NUL).
func lineKey(id board.LineID) string { return printable(fmt.Sprintf("%s.%d", id.Label, id.Offset)) }

// handleKey returns the line's key of a handle's name. ok is false if the name is not one
// of ours.
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

// MakeSafe drives every line of the crash record at path safe. hold requests one line at
// the level of its configuration and returns the handle (board.Hold). MakeSafe returns
// the open handles, which keep the lines driven until they are closed.
//
// It continues after an error, which names each line that is not safe. A line that is
// held by a handle at systemd ([MarkHeld]) is safe and no error. Lines on expanders come
// last. A missing record is no
// error: no line was ever requested.
//
// drive drives one PWM channel (board.DrivePWM). It has no handle: the kernel goes on with
// it. Its Handle has no file.
func MakeSafe(path string, hold func(board.OutputConfig) (*os.File, error), drive func(board.PWMConfig) error) ([]Handle, error) {
	lines, err := Recorded(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	expanderLinesLast(lines)
	errs := []error{err}
	var handles []Handle
	for _, l := range lines {
		var f *os.File
		if l.PWM {
			err = drive(l.PWMConfig())
		} else {
			f, err = hold(l.Config())
		}
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

// MarkHeld marks these handles as held by systemd in the crash record at path, so that
// the next [MakeSafe] knows who holds the lines. The next start of the daemon rewrites
// the record without the marks.
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
