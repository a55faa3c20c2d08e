package output

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"fieldpost/sensors/board"
)

// Systemd closes what it was told to close on a thread of its own. This is how
// long a line may stay busy after that, and how often it is tried meanwhile.
const (
	storePatience = time.Second
	storeRetry    = 5 * time.Millisecond
)

// Inheritance is what a start of the daemon finds of the run before, and the
// calls to deal with it: [board.Hold], [board.Adopt] and systemd's RemoveHandle.
type Inheritance struct {
	Record  string              // path of the crash record
	Handles map[string]*os.File // what systemd passed on, by name
	Hold    func(board.OutputConfig) (*os.File, error)
	Adopt   func(f *os.File, active bool) error
	Remove  func(name string) error
}

// taker is a board that can make an output of a held line, without releasing
// it. The output owns the file from then on; with an error the caller does.
type taker interface {
	Take(f *os.File, id board.LineID, c board.OutputConfig) (board.Output, error)
}

// Held is the lines that [TakeOver] holds at their safe levels. Its methods
// are for one goroutine at a time. A nil Held holds nothing.
type Held struct {
	remove func(name string) error
	lines  map[string]*heldLine // by lineKey
}

type heldLine struct {
	file   *os.File
	stored string // the name under which systemd has a copy; "" when it has none
	waits  bool   // systemd may not have closed its copy yet
}

// TakeOver drives every line of the run before safe and holds it: those whose
// handles systemd passed on, and those of the crash record that it did not.
// It is the first thing a start does, before it reads its configuration, and
// goes on after an error, which names each line it concerns. Handles that are
// not ours it leaves to the caller.
//
// The lines stay driven until [Open] is given the Held, so for as long as the
// configuration takes to read, and for good where it cannot be read: systemd
// keeps its copies. Open has systemd close its copies while ours are still
// open, and then writes the crash record, so that what systemd keeps always
// agrees with the record. A board that can (its method Take) then makes the
// outputs of the very handles, and no line is undriven for a moment. On any
// other, Open releases and requests one line after the other, and each is
// undriven from its release to its request; a kernel that returns released
// lines to their pull shows that as a short pulse where the pull is unsafe. A
// line that is no longer an output of the configuration is released when all
// others are claimed.
//
// systemd forgets what it keeps for a stopped unit that nothing refers to any
// more: the unit must be enabled, not only started.
func TakeOver(in Inheritance) (*Held, error) {
	h := &Held{remove: in.Remove, lines: map[string]*heldLine{}}
	for name, f := range in.Handles {
		if key, ours := handleKey(name); ours {
			h.lines[key] = &heldLine{file: f, stored: name, waits: true}
		}
	}
	lines, err := Recorded(in.Record)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	errs := []error{err}
	for _, l := range lines {
		key := lineKey(l.ID())
		if held := h.lines[key]; held != nil {
			if level, ok := l.Safe.Level(); ok {
				if err := in.Adopt(held.file, bool(level)); err != nil {
					errs = append(errs, fmt.Errorf("take over %s: %w", l, err))
				}
			}
			continue
		}
		f, err := in.Hold(l.Config())
		if err != nil {
			errs = append(errs, fmt.Errorf("take over %s: %w", l, err))
			continue
		}
		h.lines[key] = &heldLine{file: f}
	}
	return h, errors.Join(errs...)
}

// Close lets go of all lines that are left. Those of which systemd has a copy
// stay driven at their safe levels; the others `fieldpost safe` finds in the
// crash record.
func (h *Held) Close() error {
	if h == nil {
		return nil
	}
	var errs []error
	for key, held := range h.lines {
		errs = append(errs, held.file.Close())
		delete(h.lines, key)
	}
	return errors.Join(errs...)
}

// unstore has systemd close its copies, while ours keep the lines driven. One
// that fails is tried again when its line is claimed.
func (h *Held) unstore() {
	if h == nil {
		return
	}
	for _, held := range h.lines {
		_ = h.forget(held) // claim meets the same error again and reports it
	}
}

func (h *Held) forget(held *heldLine) error {
	if held.stored == "" {
		return nil
	}
	if err := h.remove(held.stored); err != nil {
		return err
	}
	held.stored = ""
	return nil
}

// claim requests a line; one that is held it takes over, or releases first.
func (h *Held) claim(b board.Board, id board.LineID, c board.OutputConfig) (board.Output, error) {
	key := lineKey(id)
	if h == nil || h.lines[key] == nil {
		return b.Output(c)
	}
	held := h.lines[key]
	if err := h.forget(held); err != nil {
		return nil, err
	}
	delete(h.lines, key)
	if t, ok := b.(taker); ok {
		if line, err := t.Take(held.file, id, c); err == nil {
			return line, nil
		} // a handle that has died; a new request shows whether the line has
	}
	if err := held.file.Close(); err != nil {
		return nil, fmt.Errorf("release held line %s: %w", id, err)
	}
	for end := time.Now().Add(storePatience); ; {
		line, err := b.Output(c)
		var busy *board.BusyError
		if err == nil || !held.waits || !errors.As(err, &busy) || time.Now().After(end) {
			return line, err
		}
		<-time.After(storeRetry)
	}
}

// rest releases the lines that are held and not among keep.
func (h *Held) rest(keep []string) error {
	if h == nil {
		return nil
	}
	var errs []error
	for key, held := range h.lines {
		if slices.Contains(keep, key) {
			continue
		}
		errs = append(errs, h.forget(held), held.file.Close())
		delete(h.lines, key)
	}
	return errors.Join(errs...)
}
