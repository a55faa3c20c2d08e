//go:build chaos && linux

package chaos

import (
	"slices"
	"time"
)

// actuation records that a line went on, or was about to when the daemon halted. The
// event of the change names the order. If the daemon is killed before that, the order's
// answer in a later run does.
type actuation struct {
	at      time.Duration
	wall    time.Time
	moved   bool   // the line went on
	window  string // where the daemon has halted
	changed bool   // it was off before, so an event follows
	cut     bool   // the daemon has ended, so no event follows
}

// windows are the places where the daemon can halt; see cmd/fieldpost/simulated.go.
var windows = map[string]string{
	"act":    "between intent and act",
	"acted":  "between act and result",
	"answer": "between result and answer",
}

// recordHalt records where the daemon has halted.
func (b *checker) recordHalt(place, what string, at time.Duration) {
	b.halted = place
	b.count["KILLS "+windows[place]]++
	switch acts := b.acts[what]; { // what is the line, or for an answer the order's id
	case place == "act":
		b.acts[what] = append(acts, &actuation{at: at, window: place})
	case place == "acted" && len(acts) > 0:
		acts[len(acts)-1].window = place
	case place == "answer" && b.sent[what] != nil:
		b.sent[what].window = place
	case place == "answer":
		b.complain("halted at the answer to %q, which is not a known order", what)
	}
}

// level records the new level of a line.
func (b *checker) level(how, line string, on bool, at time.Duration, wall time.Time) {
	changed := !b.levels[line].on
	b.levels[line] = lineState{how, on}
	b.count["lines "+how]++
	switch {
	case how != "set" && on:
		b.complain("%s was %s at on", line, how)
	case how == "set" && on:
		b.acts[line] = append(b.acts[line], &actuation{at: at, wall: wall, moved: true, changed: changed})
	}
}

// handleEvent handles the event that an output went on for an order.
func (b *checker) handleEvent(output, id string) {
	line := lines[output]
	i := slices.IndexFunc(b.acts[line], func(a *actuation) bool { return a.moved && a.changed && !a.cut })
	e := b.sent[id]
	if i < 0 || e == nil || lines[e.output] != line {
		b.complain("event: %s went on for order %q, but its line did not: %+v", output, id, e)
		return
	}
	b.assign(line, i, e)
}

// handleAnswer handles an answer by which an order may have acted. It is used only if no event
// can come.
func (b *checker) handleAnswer(e *sentOrder) {
	line := lines[e.output]
	i := slices.IndexFunc(b.acts[line], func(a *actuation) bool { return a.cut || !a.changed })
	if claimed := e.acts > 0 || e.window != "" && e.window != "answer"; i >= 0 && e.energises && !claimed {
		b.assign(line, i, e)
	}
}

// assign assigns an act to its order and checks it.
func (b *checker) assign(line string, i int, e *sentOrder) {
	a := b.acts[line][i]
	b.acts[line] = slices.Delete(b.acts[line], i, i+1)
	if a.window != "" && e.window == "" { // a halt at the answer comes after these
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
		b.complain("order %s, which was only sent as a retained message, acted", e.id)
	}
	if e.reply != nil && e.reply.Status == "refused" {
		b.complain("order %s acted after it was refused: %v", e.id, e)
	}
	if late := a.wall.Sub(e.expires); late > 0 && !e.page {
		b.checkLate(e, late, a.at)
	}
}

// cutShort records that the daemon has ended: acts without an event are assigned by
// answers.
func (b *checker) cutShort() {
	for _, acts := range b.acts {
		for _, a := range acts {
			a.cut = true
		}
	}
}

// checkUnassigned finds acts of ended daemons without an order.
func (b *checker) checkUnassigned() {
	for line, acts := range b.acts {
		for _, a := range acts {
			if a.cut {
				b.complain("%s went on and no order asked for it: %+v; the latest is %v", line, *a, b.current[line])
			}
		}
		b.acts[line] = slices.DeleteFunc(acts, func(a *actuation) bool { return a.cut })
	}
}

// checkLate checks an order that acted after its expiry. The daemon may have been suspended
// between its last check of the clock and the line.
func (b *checker) checkLate(e *sentOrder, by, at time.Duration) {
	for _, s := range b.stops {
		if s.to+time.Second > at && s.from < at && s.to-s.from+time.Second > by {
			b.tolerate("orders that acted late because the daemon was suspended before it set the line", by)
			return
		}
	}
	b.complain("order %s acted %v after it had expired", e.id, by)
}
