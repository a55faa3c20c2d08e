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

// systemd closes a handle on a thread of its own, after it has said that it will.
// storePatience is how long a line may stay busy after that, storeRetry how often it
// is requested meanwhile.
const (
	storePatience = time.Second
	storeRetry    = 5 * time.Millisecond
)

// Inheritance is what a start of the daemon finds of the run before, and the
// calls to handle it: [board.Hold], [board.Adopt] and systemd's RemoveHandle.
type Inheritance struct {
	Record  string              // path of the crash record
	Handles map[string]*os.File // what systemd passed on, by name
	Hold    func(board.OutputConfig) (*os.File, error)
	Adopt   func(f *os.File, active bool) error
	Remove  func(name string) error
}

// lineTaker is a board that can make an output of a held line, without releasing
// it. The output owns the file from then on; with an error the caller does.
type lineTaker interface {
	Take(f *os.File, id board.LineID, c board.OutputConfig) (board.Output, error)
}

// Held is the lines that [TakeOver] holds at their safe levels. A nil Held holds
// nothing. A caller that does not pass it to [Open] calls [Held.Close].
type Held struct {
	remove func(name string) error

	mu    sync.Mutex           // not held while systemd is waited for
	lines map[string]*heldLine // by lineKey
}

type heldLine struct {
	file   *os.File
	stored string // the name under which systemd has a copy; "" when it has none
	err    error  // why it still has
	waits  bool   // systemd may not have closed its copy yet
}

// TakeOver drives every line of the run before safe and holds it: the lines whose
// handles systemd passed on, and the lines of the crash record that it did not.
// A start does this first, before it reads its configuration. TakeOver goes on after
// an error, which names each line it concerns. It leaves handles that are not ours to
// the caller.
//
// The lines stay driven until [Open] gets the Held: while the configuration is read,
// and for good where it cannot be read, because systemd keeps its copies. Open has
// systemd close its copies while ours are still open and then writes the crash
// record, so what systemd keeps always agrees with the record. A board with the method
// Take then makes the outputs from these handles, and no line is undriven for a
// moment. On any other board Open releases and requests one line after the other, and
// each is undriven in between; with a kernel that returns released lines to their
// pull this is a short pulse where the pull is unsafe. Open releases a line that is no
// longer an output when all others are claimed.
//
// systemd drops what it keeps for a stopped unit that nothing refers to: the unit must
// be enabled, not only started.
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

// Close releases all lines that are left. Those of which systemd has a copy stay
// driven at their safe levels; `fieldpost safe` finds the others in the crash
// record.
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

// unstoreAll has systemd close its copies, while ours keep the lines driven. One
// that fails is tried again when its line is claimed.
func (h *Held) unstoreAll() {
	if h == nil {
		return
	}
	h.mu.Lock()
	keys := slices.Collect(maps.Keys(h.lines))
	h.mu.Unlock()
	for _, key := range keys {
		_ = h.unstoreLine(key) // claim meets the same error again and reports it
	}
}

// isStored tells whether systemd has a copy of a line's handle yet, and why.
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

// unstoreLine has systemd close its copy of a line's handle, if it has one. It waits
// for systemd.
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

// removeLine hands the line of that key over to the caller; nil is none.
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

// errStored is the reason when systemd was not yet asked for its copy.
var errStored = errors.New("systemd still has a copy of its handle")

// claim requests a line; it takes over a line that is held, or releases it first.
// With wait it waits for systemd where it must. Without, it waits for the kernel only
// and fails while systemd has a copy.
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
		} // a handle that has died; a new request shows whether the line has
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

// releaseExcept releases the lines that are held and not among keep.
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

// release releases the line of that key, if it is held, when systemd has closed its
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
