package output

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"fieldpost/sensors/board"
)

// systemd closes a handle asynchronously, after it has answered. storePatience is how
// long a line may stay busy after the answer, storeRetry how often it is requested
// meanwhile.
const (
	storePatience = time.Second
	storeRetry    = 5 * time.Millisecond
)

// Inheritance is what the last run has left to this one, and the calls to handle it:
// [board.Hold], [board.Adopt] and systemd's RemoveHandle.
type Inheritance struct {
	Record  string              // path of the crash record
	Handles map[string]*os.File // the handles that systemd passed, by name
	Hold    func(board.OutputConfig) (*os.File, error)
	Drive   func(board.PWMConfig) error // [board.DrivePWM]
	Adopt   func(f *os.File, active bool) error
	Remove  func(name string) error
}

// lineTaker is a board that can make an output from a held line without releasing it. The
// output then owns the file, unless Take returns an error.
type lineTaker interface {
	Take(f *os.File, id board.LineID, c board.OutputConfig) (board.Output, error)
}

// Held holds the lines of [TakeOver] at their safe levels. A nil Held holds nothing. A
// caller that does not pass it to [Open] must call [Held.Close].
type Held struct {
	remove func(name string) error

	mu    sync.Mutex           // not held while systemd is waited for
	lines map[string]*heldLine // by lineKey
}

type heldLine struct {
	file   *os.File
	stored string // the name under which systemd has a copy; "" if it has none
	err    error  // why it still has one
	waits  bool   // systemd was asked, and may not have closed its copy yet
}

// TakeOver drives every line of the last run safe and holds it: lines whose handles
// systemd passed, and the other lines of the crash record. The daemon calls it first,
// before it reads its configuration. TakeOver continues after an error, which names each
// line. It ignores handles that are not ours; the caller owns them.
//
// The lines stay driven until [Open] gets the Held, also if the configuration cannot be
// read, because systemd keeps its copies. Open asks systemd to close its copies while
// ours are still open, and then writes the crash record, so systemd's copies always agree
// with the record. A board with the method Take then makes the outputs from these
// handles, so that no line is ever undriven. On any other board Open releases and
// requests one line after the other, and each is undriven for a moment. On a kernel that
// returns released lines to their pull, this is a short pulse if the pull is not safe.
// Open releases lines that are no longer outputs after it has claimed the others.
//
// systemd drops the handles of a stopped unit that no other unit refers to. So the unit
// must be enabled, not only started.
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
	expanderLinesLast(lines)
	errs := []error{err}
	for _, l := range lines {
		if l.PWM {
			if err := in.Drive(l.PWMConfig()); err != nil {
				errs = append(errs, fmt.Errorf("make %s safe: %w", l, err))
			}
			continue
		}
		key := lineKey(l.ID())
		if held := h.lines[key]; held != nil {
			if level, ok := l.Safe.Level(); ok {
				if err := in.Adopt(held.file, level == On); err != nil {
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

// Close releases all remaining lines. Lines with a copy at systemd stay driven at their
// safe levels; `fieldpost safe` finds the others in the crash record.
func (h *Held) Close() error {
	if h == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for key, held := range h.lines {
		errs = append(errs, held.file.Close())
		delete(h.lines, key)
	}
	return errors.Join(errs...)
}

// unstoreAll asks systemd to close its copies, while ours keep the lines driven. A
// failure is retried when the line is claimed.
func (h *Held) unstoreAll() {
	if h == nil {
		return
	}
	h.mu.Lock()
	keys := slices.Collect(maps.Keys(h.lines))
	h.mu.Unlock()
	for _, key := range keys {
		_ = h.unstoreLine(key) // claim gets the same error again and reports it
	}
}

// isStored reports whether systemd still has a copy of a line's handle, and why.
func (h *Held) isStored(key string) (bool, error) {
	if h == nil {
		return false, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	held := h.lines[key]
	if held == nil || held.stored == "" {
		return false, nil
	}
	return true, held.err
}

// unstoreLine asks systemd to close its copy of a line's handle, if it has one, and waits
// for the answer.
func (h *Held) unstoreLine(key string) error {
	if h == nil {
		return nil
	}
	h.mu.Lock()
	held := h.lines[key]
	if held == nil || held.stored == "" {
		h.mu.Unlock()
		return nil
	}
	name := held.stored
	h.mu.Unlock()
	err := h.remove(name)
	h.mu.Lock()
	defer h.mu.Unlock()
	if held.err = err; err == nil {
		held.stored = ""
	}
	return err
}

// removeLine removes the line of that key and returns it; nil if there is none.
func (h *Held) removeLine(key string) *heldLine {
	if h == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	held := h.lines[key]
	delete(h.lines, key)
	return held
}

// errStored is the reason when systemd was not yet asked to close its copy.
var errStored = errors.New("systemd still has a copy of its handle")

// claim requests a line. If the line is held, it takes it over or releases it first. With
// wait it may wait for systemd. Without, it fails while systemd has a copy.
func (h *Held) claim(b board.Board, id board.LineID, c board.OutputConfig, wait bool) (board.Output, error) {
	key, patience := lineKey(id), time.Duration(0)
	if wait {
		if err := h.unstoreLine(key); err != nil {
			return nil, err
		}
		patience = storePatience
	}
	if still, err := h.isStored(key); still {
		return nil, cmp.Or(err, errStored)
	}
	held := h.removeLine(key)
	if held == nil {
		return b.Output(c)
	}
	if t, ok := b.(lineTaker); ok {
		if line, err := t.Take(held.file, id, c); err == nil {
			return line, nil
		} // the handle does not work; a new request shows whether the line does
	}
	if err := held.file.Close(); err != nil {
		return nil, fmt.Errorf("release held line %s: %w", id, err)
	}
	retry := time.NewTimer(0)
	defer retry.Stop()
	for end := time.Now().Add(patience); ; {
		<-retry.C
		line, err := b.Output(c)
		var busy *board.BusyError
		if err == nil || !held.waits || !errors.As(err, &busy) || !time.Now().Before(end) {
			return line, err
		}
		retry.Reset(storeRetry)
	}
}

// releaseExcept releases the held lines that are not in keep.
func (h *Held) releaseExcept(keep []string) error {
	if h == nil {
		return nil
	}
	h.mu.Lock()
	keys := slices.Collect(maps.Keys(h.lines))
	h.mu.Unlock()
	var errs []error
	for _, key := range keys {
		if slices.Contains(keep, key) {
			continue
		}
		err := h.unstoreLine(key)
		errs = append(errs, err, h.removeLine(key).file.Close())
	}
	return errors.Join(errs...)
}

// release releases the line of that key, if it is held, after systemd has closed its
// copy.
func (h *Held) release(key string) error {
	if err := h.unstoreLine(key); err != nil {
		return err
	}
	if held := h.removeLine(key); held != nil {
		return held.file.Close()
	}
	return nil
}
