package sim

import (
	"context"
	"fmt"
	"slices"
	"time"

	"fieldpost/sensors/board"
)

// Line is one line of the simulated board, seen from outside. Its levels are physical.
type Line struct {
	b  *Board
	id board.LineID
	on *Expander // nil: on the board's own chip

	// Guarded by b.mu.
	pull    board.Pull // the resistor that sets the level when nobody drives the line
	outside *bool      // the level driven from outside; nil: none
	in      *input
	out     *output
	kept    *bool // the level kept since a release; see KeepOnRelease
	holder  string
	fail    error
	now     Change
	history []Change
	watch   func(high bool) // a simulated device on the line; nil: none. The caller holds the lock.
}

// historyMost limits a line's history, for a demo that runs for days. Then the older half
// is dropped.
const historyMost = 1 << 16

// Change records that a line changed its level, or that the board began or stopped
// driving it.
type Change struct {
	High   bool          // the level on the wire
	Driven bool          // whether the board drives it
	At     time.Duration // when, on the clock that stamps edges
}

// Line returns the line of that name, under any name that Find knows. It panics if there
// is none, because that is a mistake in the test.
func (b *Board) Line(name string) *Line {
	l, err := b.line(name)
	if err != nil {
		panic(err)
	}
	return l
}

// Drive drives the line from outside, like a switch or a sensor.
func (l *Line) Drive(high bool) { l.change(func() { l.outside = &high }) }

// Float ends Drive. The line's pull remains.
func (l *Line) Float() { l.change(func() { l.outside = nil }) }

// chatterStep is how often Chatter checks the time.
const chatterStep = time.Millisecond

// Chatter changes the level that many times a second until ctx ends, like hum on an open
// wire or a bad contact. The line then keeps its level. Chatter returns the number of
// changes.
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

// SetPull sets the resistor on the wire, up or down. It sets the level while nobody
// drives the line and no other pull is requested. Lines start pulled down.
func (l *Line) SetPull(p board.Pull) { l.change(func() { l.pull = p }) }

// Hold makes somebody else the holder of the line, so that it is busy. "" releases it.
func (l *Line) Hold(holder string) { l.change(func() { l.holder = holder }) }

// Fail makes requesting, reading and setting the line fail with err; nil repairs it.
func (l *Line) Fail(err error) { l.change(func() { l.fail = err }) }

// Level returns the level on the wire now, and whether the board drives it.
func (l *Line) Level() (high, driven bool) {
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	return l.level()
}

// History lists every change of the line since New, oldest first. The initial state,
// undriven and low, is not in the list.
func (l *Line) History() []Change {
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	return slices.Clone(l.history)
}

// ID says which line it is.
func (l *Line) ID() board.LineID { return l.id }

// change calls fn under the board's lock, then records and reports a change of the level.
func (l *Line) change(fn func()) {
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	fn()
	l.settle()
}

// level returns the wire's level. The caller holds the lock.
func (l *Line) level() (high, driven bool) {
	if l.on != nil {
		if high, driven = l.on.drives(l); driven {
			return high, true
		}
		if l.on.kind == PCF8574 && l.outside == nil {
			return true, true // its own weak pull-up
		}
	}
	switch {
	case l.on == nil && l.out != nil && l.out.drives():
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

// settle records a change of the level and passes it to the input. The caller holds the
// lock.
func (l *Line) settle() {
	high, driven := l.level()
	if l.watch != nil && high != l.now.High {
		l.watch(high)
	}
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

// free returns an error if the line cannot be requested now. The caller holds the lock.
func (l *Line) free() error {
	if l.fail != nil {
		return fmt.Errorf("request line %s: %w", l.id, l.fail)
	}
	if holder := l.heldBy(); holder != "" {
		return &board.BusyError{Line: l.id, Holder: holder}
	}
	return nil
}

// heldBy names the holder of the line. The caller holds the lock.
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
	l := b.at(id)
	if l == nil {
		return "", false
	}
	name = l.heldBy()
	return name, name != ""
}

// consumer is the name shown as the holder.
func consumer(name string) string {
	if name == "" {
		return board.Consumer
	}
	return name
}
