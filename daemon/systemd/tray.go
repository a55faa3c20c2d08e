package systemd

import (
	"sync"
	"time"
)

const (
	trayRoom     = 500                    // lines that wait
	trayPatience = 250 * time.Millisecond // how long whoever logs waits for a line to be written
)

// tray takes lines to be written, one after the other, so that nobody waits
// long for a journal that hangs or a pipe that nobody reads. Where all is well a
// line has been written when add returns, so that none is lost at the program's
// end.
type tray struct {
	patience time.Duration
	tell     func(lost int) (write func()) // makes the line that says how many were lost

	mu      sync.Mutex
	lines   []entry
	writing bool // a goroutine writes
	stuck   bool // it has not written a line in time
	lost    int  // lines, because it was full
}

// entry is a line in the tray.
type entry struct {
	write   func()
	written chan struct{} // closed when it is
}

func newTray(tell func(lost int) func()) *tray { return &tray{patience: trayPatience, tell: tell} }

// add has a line written. It waits until it is, unless writing is stuck. Where
// there is no room, the line is lost.
func (t *tray) add(write func()) {
	e := entry{write, make(chan struct{})}
	t.mu.Lock()
	if len(t.lines) >= trayRoom {
		t.lost++
		t.mu.Unlock()
		return
	}
	t.lines = append(t.lines, e)
	if !t.writing {
		t.writing = true
		go t.empty()
	}
	stuck := t.stuck
	t.mu.Unlock()
	if !stuck {
		t.await(e)
	}
}

// await waits until a line has been written, as long as there is patience.
func (t *tray) await(e entry) {
	timer := time.NewTimer(t.patience)
	defer timer.Stop()
	select {
	case <-e.written:
	case <-timer.C:
		t.mu.Lock()
		t.stuck = t.writing
		t.mu.Unlock()
	}
}

// empty writes until nothing is left.
func (t *tray) empty() {
	for {
		t.mu.Lock()
		switch {
		case len(t.lines) == 0 && t.lost > 0:
			t.lines = []entry{{t.tell(t.lost), make(chan struct{})}}
			t.lost = 0
		case len(t.lines) == 0:
			t.lines, t.writing, t.stuck = nil, false, false
			t.mu.Unlock()
			return
		}
		e := t.lines[0]
		t.lines = t.lines[1:]
		t.mu.Unlock()
		e.write()
		close(e.written)
	}
}
