package output

import (
	"fmt"
	"time"
)

// TooSoonError says that an output has to keep its level for a while yet.
type TooSoonError struct {
	Output string
	Level  Level         // which it has
	Left   time.Duration // for how long yet; 0 where an order to the safe level waits for min_on or min_off
}

// Error says which level, for how long and why.
func (e *TooSoonError) Error() string {
	why := "min_off"
	if e.Level == On {
		why = "min_on"
	}
	if e.Left == 0 {
		return fmt.Sprintf("output %q stays %s until its %s is over, and then goes to its safe level by an order that waits", e.Output, e.Level, why)
	}
	left := (e.Left + time.Second - 1).Truncate(time.Second) // when it is over for sure
	return fmt.Sprintf("output %q stays %s for another %s, by its %s", e.Output, e.Level, left, why)
}

// minimum is the shortest the output stays at a level.
func (p *pin) minimum(l Level) time.Duration {
	if l == On {
		return p.c.MinOn
	}
	return p.c.MinOff
}

// left is how long the output has to keep its level yet.
func (p *pin) left(now time.Time) time.Duration {
	return max(0, p.moved.Add(p.minimum(p.state.Load().Level)).Sub(now))
}

// changes gives a channel that is closed when the output changes its level.
// An order that waits for that holds nothing else.
func (p *pin) changes() <-chan struct{} {
	if p.changed == nil {
		p.changed = make(chan struct{})
	}
	return p.changed
}
