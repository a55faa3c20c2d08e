package sim

import (
	"context"
	"fmt"
	"slices"
	"time"

	"fieldpost/sensors/board"
)

// Line is one line of the simulated board, seen from outside: from the wire.
// Its levels are physical.
type Line struct {
	b  *Board
	id board.LineID

	// Guarded by b.mu.
	pull    board.Pull // what the wire is pulled to when nobody drives it
	outside *bool      // what the world drives it to; nil: nothing
	in      *input
	out     *output
	kept    *bool // the level kept since a release; see KeepOnRelease
	holder  string
	fail    error
	now     Change
	history []Change
}

// historyMost bounds what a line remembers of its past, for a demo that runs
// for days; the older half is forgotten.
const historyMost = 1 << 16

// Change is a moment at which a line changed its level or began or ceased to
// be driven by the board.
type Change struct {
	High   bool          // the level on the wire
	Driven bool          // whether the board drives it
	At     time.Duration // when, on the clock that stamps edges
}

// Line returns the line of that name, under any name that Find knows. It panics
// when there is none: in a test that is the test's mistake.
func (b *Board) Line(name string) *Line {
	l, err := b.line(name)
	if err != nil {
		panic(err)
	}
	return l
}

// Drive puts a level on the wire from outside: a switch, a sensor, a finger.
func (l *Line) Drive(high bool) { l.change(func() { l.outside = &high }) }

// Float takes away what Drive put on the wire; its pull is left.
func (l *Line) Float() { l.change(func() { l.outside = nil }) }

// chatterStep is how often Chatter looks at the time.
const chatterStep = time.Millisecond

// Chatter has the wire change its level that many times a second, as hum on an
// open wire or a bad contact does, until ctx ends; then the wire keeps the level
// that it has. It returns how many changes it made.
func (l *Line) Chatter(ctx context.Context, changes float64) (made int) {
	start := time.Now()
	high, _ := l.Level()
	tick := time.NewTicker(chatterStep)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return made
		case <-tick.C:
		}
		for due := int(changes * time.Since(start).Seconds()); made < due; made++ {
			high = !high
			l.Drive(high)
		}
	}
}

// SetPull is the resistor on the wire, up or down, which holds it as long as
// nobody drives it and no other is asked for. Lines start pulled down.
func (l *Line) SetPull(p board.Pull) { l.change(func() { l.pull = p }) }

// Hold makes somebody else the holder of the line, so that it is busy; ""
// frees it again.
func (l *Line) Hold(holder string) { l.change(func() { l.holder = holder }) }

// Fail makes requesting, reading and setting the line end in err; nil mends
// it.
func (l *Line) Fail(err error) { l.change(func() { l.fail = err }) }

// Level returns the level on the wire now, and whether the board drives it.
func (l *Line) Level() (high, driven bool) {
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	return l.level()
}

// History lists every change of the line since New, oldest first. At first a
// line is undriven and low; that is not in the list.
func (l *Line) History() []Change {
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	return slices.Clone(l.history)
}

// ID says which line it is.
func (l *Line) ID() board.LineID { return l.id }

// change runs fn under the board's lock and lets its consequences happen.
func (l *Line) change(fn func()) {
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	fn()
	l.settle()
}

// level works out the wire's level; the caller holds the lock.
func (l *Line) level() (high, driven bool) {
	switch {
	case l.out != nil && l.out.drives():
		return l.out.high, true
	case l.kept != nil:
		return *l.kept, true
	case l.outside != nil:
		return *l.outside, false
	case l.in != nil && l.in.c.Pull == board.PullUp:
		return true, false
	case l.in != nil && l.in.c.Pull == board.PullDown:
		return false, false
	}
	return l.pull == board.PullUp, false
}

// settle records a change of level and tells the input, under the lock.
func (l *Line) settle() {
	high, driven := l.level()
	if high != l.now.High || driven != l.now.Driven {
		l.now = Change{High: high, Driven: driven, At: l.b.mono()}
		l.history = append(l.history, l.now)
		if len(l.history) > historyMost {
			l.history = slices.Clone(l.history[len(l.history)-historyMost/2:])
		}
	}
	if l.in != nil {
		l.in.see(high)
	}
}

// free says why the line cannot be requested now, under the lock.
func (l *Line) free() error {
	if l.fail != nil {
		return fmt.Errorf("request line %s: %w", l.id, l.fail)
	}
	if holder := l.heldBy(); holder != "" {
		return &board.BusyError{Line: l.id, Holder: holder}
	}
	return nil
}

// heldBy names who holds the line, under the lock.
func (l *Line) heldBy() string {
	switch {
	case l.in != nil:
		return l.in.c.Consumer
	case l.out != nil:
		return l.out.c.Consumer
	}
	return l.holder
}

// Holder returns who holds a line now.
func (b *Board) Holder(id board.LineID) (name string, held bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if id.Offset < 0 || id.Offset >= len(b.lines) {
		return "", false
	}
	name = b.lines[id.Offset].heldBy()
	return name, name != ""
}

// consumer is the name shown as the holder.
func consumer(name string) string {
	if name == "" {
		return board.Consumer
	}
	return name
}
