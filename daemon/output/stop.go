package output

import (
	"errors"
	"fmt"
	"os"
)

// Safe drives every line safe, now and for good: orders are refused from then
// on. A line whose output is safe as it is stays so. It goes on after an error
// and may be called again, also while it is under way. Outputs that are busy
// come last, so that one that hangs keeps no other from being made safe; and
// nothing is told before all are safe.
func (b *Bank) Safe(cause string) error {
	defer b.tells.leave()
	return b.all(func(p *pin) error {
		safe, ok := p.c.Safe.Level()
		if !ok || p.line == nil {
			p.next = end{}
			return nil
		}
		if err := p.drive(safe, why{cause: cause}); err != nil {
			return &FailedError{p.c.Name, err}
		}
		return nil
	})
}

// shared is a line whose handle can be copied; see board's lines on Linux.
type shared interface {
	Handle() (*os.File, error)
}

// Handles gives a copy of the handle of every line that is at its safe level,
// or safe as it is, for somebody else to keep open; the caller closes them. It
// goes on after an error. Lines of a board without handles are left out, and
// those that Store has already.
func (b *Bank) Handles() ([]Handle, error) {
	var handles []Handle
	err := b.all(func(p *pin) error {
		if p.stored.Load() {
			return nil
		}
		h, err := p.handle()
		if h.File != nil {
			handles = append(handles, h)
		}
		return err
	})
	return handles, err
}

// Close makes every line safe where [Bank.Safe] has not, and releases them.
// The crash record stays, for `fieldpost safe`.
func (b *Bank) Close() error {
	defer b.tells.leave()
	return errors.Join(b.Safe(CauseStop), b.all(func(p *pin) error {
		if p.line == nil {
			return nil
		}
		line := p.line
		p.line = nil
		p.fail(ErrStopped)
		if err := line.Close(); err != nil {
			return fmt.Errorf("release output %q: %w", p.c.Name, err)
		}
		return nil
	}))
}

// all stops the bank and calls fn for each pin, the busy ones last.
func (b *Bank) all(fn func(*pin) error) error {
	b.mu.Lock()
	if !b.stopped {
		b.stopped = true
		close(b.stopping)
	}
	b.mu.Unlock()
	var errs []error
	var busy []*pin
	for _, p := range b.pins {
		if !p.mu.TryLock() {
			busy = append(busy, p)
			continue
		}
		errs = append(errs, fn(p))
		p.mu.Unlock()
	}
	for _, p := range busy {
		p.mu.Lock()
		errs = append(errs, fn(p))
		p.mu.Unlock()
	}
	return errors.Join(errs...)
}
