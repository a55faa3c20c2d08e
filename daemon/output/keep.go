package output

import (
	"fmt"
	"os"
)

// Store takes handles to keep open when this process is gone: systemd's
// StoreHandles. It returns when they are kept.
type Store func(names []string, files []*os.File) error

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
	return Handle{p.recordLine(*p.id.Load()), f}, nil
}
