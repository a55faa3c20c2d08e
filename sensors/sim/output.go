package sim

import (
	"fmt"
	"os"

	"fieldpost/sensors/board"
)

// output is a line requested as an output.
type output struct {
	l      *Line
	c      board.OutputConfig
	high   bool
	closed bool
}

var _ board.Output = (*output)(nil)

// Output requests a line as an output. The line changes once, to its initial level, or
// with c.Keep not at all.
func (b *Board) Output(c board.OutputConfig) (board.Output, error) {
	l, err := b.line(c.Line)
	if err != nil {
		return nil, err
	}
	switch c.Drive {
	case "", board.PushPull, board.OpenDrain, board.OpenSource:
	default:
		return nil, fmt.Errorf("request line %s: drive %q: want push-pull, open-drain or open-source", l.id, c.Drive)
	}
	c.Consumer = consumer(c.Consumer)
	o := &output{l: l, c: c, high: c.Active != c.ActiveLow}
	if l.on != nil {
		l.on.await()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := l.free(); err != nil {
		return nil, err
	}
	if c.Keep {
		o.high, _ = l.level()
	}
	if l.on != nil {
		if err := l.on.drive(o); err != nil {
			return nil, fmt.Errorf("request line %s: its chip does not answer, check its power and wires: %w", l.id, err)
		}
		l.out = o
		return &expanderOutput{output: o}, nil
	}
	l.out, l.kept = o, nil
	l.settle()
	return o, nil
}

// drives reports whether the output drives the present level or leaves it to the pull.
func (o *output) drives() bool {
	switch o.c.Drive {
	case board.OpenDrain:
		return !o.high
	case board.OpenSource:
		return o.high
	}
	return true
}

// ID says which line it is.
func (o *output) ID() board.LineID { return o.l.id }

// BeforeSet sets a function to call before an output is set, with the name under which
// the line was requested and the new state. f may block, like a kernel call that hangs.
// It is called from any goroutine. nil removes it.
func (b *Board) BeforeSet(f func(line string, active bool)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.beforeSet = f
}

// Set drives the line.
func (o *output) Set(active bool) error {
	o.l.b.mu.Lock()
	before := o.l.b.beforeSet
	o.l.b.mu.Unlock()
	if before != nil {
		before(o.c.Line, active)
	}
	o.l.b.mu.Lock()
	defer o.l.b.mu.Unlock()
	if err := o.broken("set"); err != nil {
		return err
	}
	o.high = active != o.c.ActiveLow
	o.l.settle()
	return nil
}

// Active reads the wire's level.
func (o *output) Active() (bool, error) {
	o.l.b.mu.Lock()
	defer o.l.b.mu.Unlock()
	if err := o.broken("read"); err != nil {
		return false, err
	}
	high, _ := o.l.level()
	return high != o.c.ActiveLow, nil
}

// Close releases the line. It then keeps its level or goes back to its pull; see
// [Board.KeepOnRelease].
func (o *output) Close() error {
	o.l.b.mu.Lock()
	defer o.l.b.mu.Unlock()
	if o.closed {
		return fmt.Errorf("close line %s: %w", o.l.id, os.ErrClosed)
	}
	o.release()
	return nil
}

// release ends the request, under the lock.
func (o *output) release() {
	o.closed = true
	if o.l.on != nil { // its drivers leave a released line as it is
		o.l.out = nil
		return
	}
	if o.l.b.keep && o.drives() {
		high := o.high
		o.l.kept = &high
	}
	o.l.out = nil
	o.l.settle()
}

func (o *output) broken(verb string) error {
	switch {
	case o.closed:
		return fmt.Errorf("%s line %s: %w", verb, o.l.id, os.ErrClosed)
	case o.l.fail != nil:
		return fmt.Errorf("%s line %s: %w", verb, o.l.id, o.l.fail)
	}
	return nil
}
