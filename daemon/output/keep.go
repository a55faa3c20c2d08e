package output

import (
	"fmt"
	"os"
	"time"
)

// Store takes handles to keep open when this process is gone: systemd's
// StoreHandles. It returns when they are kept.
type Store func(names []string, files []*os.File) error

// store has the lines kept that are to stay as they are, so that a crash does
// not end what drives them, and notes that in the crash record. Handles are
// copies: what a line is set to later holds for them too.
func (b *Bank) store(now time.Time) {
	b.storeAgain = now.Add(retryMost)
	if b.o.Store == nil {
		return
	}
	var names []string
	var files []*os.File
	var kept []*pin
	for _, p := range b.pins {
		if _, driven := p.c.Safe.Level(); driven || p.stored.Load() || !p.mu.TryLock() {
			continue
		}
		h, err := p.handle()
		p.mu.Unlock()
		if err != nil {
			b.notKept(err)
		}
		if h.File != nil {
			names, files, kept = append(names, h.Name()), append(files, h.File), append(kept, p)
		}
	}
	if len(files) == 0 {
		return
	}
	err := b.o.Store(names, files)
	for _, f := range files {
		_ = f.Close() // a copy
	}
	if err != nil {
		b.notKept(fmt.Errorf("keep %q: %w", names, err))
		return
	}
	for _, p := range kept {
		p.stored.Store(true)
	}
	b.record(now)
}

func (b *Bank) notKept(err error) {
	b.tells.put(func() { b.o.Log.Warn("a crash may change an output that is to stay as it is", "err", err) })
}

// handle gives a copy of the line's handle, if the line is safe as it is now.
// There is no file where it is not, or where the board has no handles.
func (p *pin) handle() (Handle, error) {
	line, ok := p.line.(shared)
	s := p.state.Load()
	if safe, driven := p.c.Safe.Level(); !ok || s.Err != nil || driven && s.Level != safe {
		return Handle{}, nil
	}
	f, err := line.Handle()
	if err != nil {
		return Handle{}, fmt.Errorf("share output %q: %w", p.c.Name, err)
	}
	return Handle{p.recordLine(), f}, nil
}
