package output

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"fieldpost/daemon/durable"
	"fieldpost/daemon/regular"
	"fieldpost/sensors/board"
)

// Line is one line of the crash record: everything needed to drive it safe without the
// configuration.
type Line struct {
	Output    string        `json:"output"`             // the output's name
	Label     string        `json:"label"`              // the chip's label
	Chip      string        `json:"chip,omitempty"`     // the chip's device name when it was recorded
	Offset    int           `json:"offset"`             // the line's offset on its chip
	Name      string        `json:"line,omitempty"`     // the kernel's name of the line
	ActiveLow bool          `json:"active_low"`         // on is the low level
	Drive     board.Drive   `json:"drive"`              // how the line is driven
	Safe      Safe          `json:"safe"`               // the level to drive; keep leaves it as it is
	Held      bool          `json:"held"`               // systemd has a handle of it, at its safe level
	PWM       bool          `json:"pwm,omitempty"`      // a PWM channel, Offset of the PWM chip Label
	Period    time.Duration `json:"period,omitempty"`   // the PWM channel's, in nanoseconds
	Expander  string        `json:"expander,omitempty"` // the kernel's name of the I/O expander that has the line
}

// ID returns the line's identity on the board.
func (l Line) ID() board.LineID {
	return board.LineID{Label: l.Label, Chip: l.Chip, Offset: l.Offset, Name: l.Name}
}

// Config returns the request of the line at its safe level, by the chip's label.
func (l Line) Config() board.OutputConfig {
	level, ok := l.Safe.Level()
	return board.OutputConfig{
		Line:      fmt.Sprintf("%s:%d", l.Label, l.Offset),
		ActiveLow: l.ActiveLow,
		Drive:     l.Drive,
		Active:    level == On,
		Keep:      !ok,
	}
}

// PWMConfig returns the request of the PWM channel at its safe level, by the name of the
// chip's device.
func (l Line) PWMConfig() board.PWMConfig {
	level, ok := l.Safe.Level()
	return board.PWMConfig{
		Channel: fmt.Sprintf("%s:%d", l.Label, l.Offset), Period: l.Period, On: onTime(level, l.Period), ActiveLow: l.ActiveLow, Keep: !ok,
	}
}

// String names the output and its line for people.
func (l Line) String() string { return fmt.Sprintf("output %q on line %s", l.Output, l.ID()) }

// expanderLinesLast sorts lines on expanders to the end, because these need a bus, which
// may hang.
func expanderLinesLast(lines []Line) {
	slices.SortStableFunc(lines, func(a, b Line) int { return min(len(a.Expander), 1) - min(len(b.Expander), 1) })
}

// maxRecord is how much of a crash record is read. A hundred lines take 20 kB.
const maxRecord = 1 << 20

// Recorded reads the crash record at path. It returns every line that can be read, and an
// error that names those that cannot. The error wraps [fs.ErrNotExist] if there is no
// record, so no line was ever requested. It wraps [regular.ErrKind] if path is a link or
// no regular file; root also reads the record, and the directory is not root's.
func Recorded(path string) ([]Line, error) {
	raw, err := regular.ReadUnlinked(path, maxRecord)
	if err != nil {
		return nil, fmt.Errorf("read crash record: %w", err)
	}
	var lines []Line
	var errs []error
	for i, text := range bytes.Split(raw, []byte("\n")) {
		if len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		l, err := parseLine(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %w", path, i+1, err))
			continue
		}
		lines = append(lines, l)
	}
	return lines, errors.Join(errs...)
}

// parseLine parses one line of the record. It ignores unknown keys, because the record of
// a newer fieldpost must still work.
func parseLine(text []byte) (Line, error) {
	var raw struct {
		Line
		Drive  string `json:"drive"` // the default is push-pull, as in board.OutputConfig
		Safe   *Safe  `json:"safe"`
		Offset *int   `json:"offset"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return Line{}, fmt.Errorf("read recorded line %.80q: %w", text, err)
	}
	l := raw.Line
	switch {
	case l.Label == "":
		return Line{}, fmt.Errorf("read recorded line %.80q: no chip label", text)
	case raw.Offset == nil || *raw.Offset < 0:
		return Line{}, fmt.Errorf("read recorded line %.80q: no offset", text)
	case l.PWM && l.Period <= 0:
		return Line{}, fmt.Errorf("read recorded line %.80q: no period", text)
	case raw.Safe == nil:
		return Line{}, fmt.Errorf("read recorded line %.80q: no safe level", text)
	}
	l.Offset, l.Safe, l.Drive = *raw.Offset, *raw.Safe, board.PushPull
	if raw.Drive != "" {
		if err := l.Drive.UnmarshalText([]byte(raw.Drive)); err != nil {
			return Line{}, fmt.Errorf("read recorded line %.80q: drive: %w", text, err)
		}
	}
	return l, nil
}

// recordMu is held while a record is written, because all writers use the same temporary
// file.
var recordMu sync.Mutex

// writeRecord replaces the record at path atomically, and syncs it. Readers find the old
// record or the new one.
func writeRecord(path string, lines []Line) error {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false) // escapes would only make it longer
	for _, l := range lines {
		if err := enc.Encode(l); err != nil {
			return fmt.Errorf("encode crash record: %w", err)
		}
	}
	recordMu.Lock()
	defer recordMu.Unlock()
	dir := durable.OSDir{Path: filepath.Dir(path), Mode: 0o644}
	name := filepath.Base(path)
	if err := durable.ReplaceBy(dir, name, name+".new", text.Bytes()); err != nil {
		return fmt.Errorf("write crash record: %w", err)
	}
	return nil
}

// recordThere reports whether there is a record at path that is not empty. If that cannot be
// found out, it is taken to be there.
func recordThere(path string) bool {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	return err != nil || info.Mode().IsRegular() && info.Size() > 0
}

// ErrOwned is the reason when another running daemon owns the crash record.
var ErrOwned = errors.New("another fieldpost runs with it")

// Own locks the crash record at path for this process, until the closer is closed or the
// process ends in any way. Call it before [TakeOver]: two daemons with one record would
// remove each other's lines from it, and after a crash nobody would make them safe. The
// error wraps [ErrOwned] if another process has the lock.
//
// The lock is on a file next to the record that no other user may open, so that other
// users cannot prevent the daemon from starting.
//
// `fieldpost safe` does not take the lock: it must work even while a daemon runs that
// cannot be killed.
func Own(path string) (io.Closer, error) {
	f, err := regular.OpenUnlinked(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("own crash record: %w", err)
	}
	switch err := durable.Lock(f); {
	case errors.Is(err, durable.ErrLocked):
		_ = f.Close() // nothing was written
		return nil, fmt.Errorf("own crash record in %q: %w\nstop that one (systemctl stop fieldpost), or give this one a directory of its own in RUNTIME_DIRECTORY", filepath.Dir(path), ErrOwned)
	case err != nil:
		return nil, errors.Join(fmt.Errorf("own crash record %q: %w", path, err), f.Close())
	}
	return f, nil
}
