//go:build chaos && linux

package chaos

import (
	"slices"
	"time"
)

// actuation is that a line went on, or was about to when the daemon halted. Whose
// order that was the daemon says in the event of the change; where it is killed
// before that, in the order's answer, given in a later run.
type actuation struct {
	at      time.Duration
	wall    time.Time
	moved   bool   // the line went on
	window  string // where the daemon has halted over it
	changed bool   // it was off before: an event follows
	cut     bool   // the daemon has ended: none follows any more
}

// windows are where an order can be cut short; see cmd/fieldpost/simulated.go.
var windows = map[string]string{
	"act":    "between intent and act",
	"acted":  "between act and result",
	"answer": "between result and answer",
}

// halts notes where the daemon has halted.
func (b *books) halts(place, what string, at time.Duration) {
	b.halted = place
	b.count["KILLS WHERE THEY HURT "+windows[place]]++
	switch acts := b.acts[what]; { // by the line; of an answer what is the order's id
	case place == "act":
		b.acts[what] = append(acts, &actuation{at: at, window: place})
	case place == "acted" && len(acts) > 0:
		acts[len(acts)-1].window = place
	case place == "answer" && b.sent[what] != nil:
		b.sent[what].window = place
	case place == "answer":
		b.complain("halted at the answer to %q, of which nothing is known", what)
	}
}

// level enters what a line did.
func (b *books) level(how, line string, on bool, at time.Duration, wall time.Time) {
	changed := !b.levels[line].on
	b.levels[line] = standing{how, on}
	b.count["lines "+how]++
	switch {
	case how != "set" && on:
		b.complain("%s was %s at on", line, how)
	case how == "set" && on:
		b.acts[line] = append(b.acts[line], &actuation{at: at, wall: wall, moved: true, changed: changed})
	}
}

// owns takes in the event that an output went on for an order.
func (b *books) owns(output, id string) {
	line := lines[output]
	i := slices.IndexFunc(b.acts[line], func(a *actuation) bool { return a.moved && a.changed && !a.cut })
	e := b.sent[id]
	if i < 0 || e == nil || lines[e.output] != line {
		b.complain("event: %s went on for order %q, of which its line knows nothing: %+v", output, id, e)
		return
	}
	b.claim(line, i, e)
}

// admits takes in an answer that says that an order may have acted. An event
// is better, where one can come.
func (b *books) admits(e *sentOrder) {
	line := lines[e.output]
	i := slices.IndexFunc(b.acts[line], func(a *actuation) bool { return a.cut || !a.changed })
	if claimed := e.acts > 0 || e.window != "" && e.window != "answer"; i >= 0 && e.energises && !claimed {
		b.claim(line, i, e)
	}
}

// claim gives an act to its order, and judges it.
func (b *books) claim(line string, i int, e *sentOrder) {
	a := b.acts[line][i]
	b.acts[line] = slices.Delete(b.acts[line], i, i+1)
	if a.window != "" && e.window == "" { // one that has halted at its answer has gone past these
		e.window = a.window
	}
	if !a.moved {
		return
	}
	e.acts++
	if e.stray {
		b.complain("order %s acted, which was sent to topic %q and thing %q", e.id, e.topic, e.thing)
	}
	if e.acts > 1 {
		b.complain("order %s acted %d times", e.id, e.acts)
	}
	if !e.energises {
		b.complain("%s went on for order %s, which asks for off", line, e.id)
	}
	if e.retained && !e.strange {
		b.complain("order %s, which was only ever there as a retained copy, acted", e.id)
	}
	if e.reply != nil && e.reply.Status == "refused" {
		b.complain("order %s acted after it was refused: %v", e.id, e)
	}
	if late := a.wall.Sub(e.expires); late > 0 {
		b.late(e, late, a.at)
	}
}

// cutShort notes that the daemon has ended: what it has not told of its acts it
// tells in its answers.
func (b *books) cutShort() {
	for _, acts := range b.acts {
		for _, a := range acts {
			a.cut = true
		}
	}
}

// ownerless finds acts of daemons that have ended for which no order was
// answered.
func (b *books) ownerless() {
	for line, acts := range b.acts {
		for _, a := range acts {
			if a.cut {
				b.complain("%s went on and no order asked for it: %+v; the latest is %v", line, *a, b.current[line])
			}
		}
		b.acts[line] = slices.DeleteFunc(acts, func(a *actuation) bool { return a.cut })
	}
}

// late judges an order that acted after its time. Between the last look at the
// clock and the line there is time for the daemon to be suspended.
func (b *books) late(e *sentOrder, by, at time.Duration) {
	for _, s := range b.stops {
		if s.to+time.Second > at && s.from < at && s.to-s.from+time.Second > by {
			b.tolerate("orders acted late, suspended on their way to the line", by)
			return
		}
	}
	b.complain("order %s acted %v after it had expired", e.id, by)
}
