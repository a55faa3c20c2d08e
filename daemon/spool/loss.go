package spool

import (
	"cmp"
	"maps"
	"slices"
)

// origin is one sensor in one run.
type origin struct {
	sensor string
	run    uint64
}

// loss is what is missing of an origin: everything from lo to hi, or from lo
// on where it is open. What is not certain may not be missing at all.
type loss struct {
	lo, hi    uint64
	open      bool
	uncertain bool
}

// tally adds up what is given up at one time, so that it can be told in one
// gap for each sensor.
type tally struct {
	order  []origin
	losses map[origin]loss
	parts  map[origin]*ids   // the counts that are known to be lost
	maybe  map[origin]loss   // what may have come all the same, from the first to the last
	others map[uint64]others // records without a count of their own, by the run that took them
	n      int               // all records given up
}

// others are answers, faults and events that are given up.
type others struct {
	n      int64
	unsure bool // some may have come all the same
}

func newTally() *tally {
	return &tally{losses: map[origin]loss{}, parts: map[origin]*ids{}, maybe: map[origin]loss{}, others: map[uint64]others{}}
}

// other adds records without a count of their own.
func (t *tally) other(run uint64, n int64, unsure bool) {
	old := t.others[run]
	t.others[run] = others{old.n + n, old.unsure || unsure}
}

// lose adds a loss.
func (t *tally) lose(o origin, x loss) {
	old, known := t.losses[o]
	if !known {
		t.order = append(t.order, o)
		t.losses[o] = x
		t.parts[o] = &ids{}
	}
	if !x.open {
		t.parts[o].add(x.lo, x.hi+1)
	}
	if !known {
		return
	}
	t.losses[o] = loss{
		lo: min(old.lo, x.lo), hi: max(old.hi, x.hi),
		open: old.open || x.open, uncertain: old.uncertain || x.uncertain,
	}
}

// loseAll adds all that a segment may have held.
func (g *segment) loseAll(t *tally) {
	for _, x := range g.sums {
		if x.hi > 0 {
			t.lose(origin{x.sensor, x.run}, loss{lo: x.lo, hi: x.hi, uncertain: true})
		}
	}
}

// mayLose adds what may have come all the same. It is told in a gap of its own,
// so that the rest can be told for certain.
func (t *tally) mayLose(o origin, x loss) {
	if old, known := t.maybe[o]; known {
		x.lo, x.hi = min(old.lo, x.lo), max(old.hi, x.hi)
	}
	x.uncertain = true
	t.maybe[o] = x
}

// giveUp gives up a record that a run took, and which may have come all the same
// where it was sent. A gap that is given up lives on in the tally.
func (t *tally) giveUp(run uint64, payload []byte, sent bool) {
	t.n++
	r, gap, err := decodeEntry(Events, payload)
	run = cmp.Or(r.Run, run)
	switch {
	case err != nil:
		t.other(run, 1, false)
	case gap != nil:
		t.merge(run, origin{r.Sensor, r.Run}, *gap)
	case r.Seq > 0 && r.Sensor != "" && sent:
		t.mayLose(origin{r.Sensor, r.Run}, loss{lo: r.Seq, hi: r.Seq})
	case r.Seq > 0 && r.Sensor != "":
		t.lose(origin{r.Sensor, r.Run}, loss{lo: r.Seq, hi: r.Seq})
	default:
		t.other(run, 1, sent)
	}
}

func (t *tally) merge(run uint64, o origin, g Gap) {
	switch x := g.loss(); {
	case x.lo == 0:
	case x.uncertain && !x.open:
		t.mayLose(o, x)
	default:
		t.lose(o, x)
	}
	if g.Count > 0 {
		t.other(run, g.Count, g.Uncertain)
	}
}

// gap is what tells of a loss.
func (x loss) gap(reason string) Gap {
	g := Gap{Reason: reason, First: x.lo, Last: x.hi, Uncertain: x.uncertain}
	if x.open {
		g.Last = 0
	}
	return g
}

// originGap is a gap, and of whom.
type originGap struct {
	origin
	Gap
}

// maybes gives the gaps that tell of what may have come, one for each
// origin, but where the gap that tells of the rest is not certain either: then
// that tells of both.
func (t *tally) maybes(reason string) (out []originGap) {
	for _, o := range sorted(t.maybe) {
		if !t.rest(o).uncertain {
			out = append(out, originGap{o, t.maybe[o].gap(reason)})
		}
	}
	return out
}

// rest is what is missing of an origin besides. Where some between the first
// and the last that are lost are not, as they are edges or have been
// acknowledged, it is not certain.
func (t *tally) rest(o origin) loss {
	x, some := t.losses[o]
	if some && len(t.parts[o].spans) > 1 {
		x.uncertain = true
	}
	if y, both := t.maybe[o]; both && x.uncertain {
		x.lo, x.hi = min(x.lo, y.lo), max(x.hi, y.hi)
	}
	return x
}

// gaps gives the gaps that tell of the rest, one for each origin.
func (t *tally) gaps(reason string) (out []originGap) {
	for _, o := range t.order {
		out = append(out, originGap{o, t.rest(o).gap(reason)})
	}
	for _, run := range slices.Sorted(maps.Keys(t.others)) {
		x := t.others[run]
		out = append(out, originGap{origin{run: run}, Gap{Reason: reason, Count: x.n, Uncertain: x.unsure}})
	}
	return out
}

// speaksFor gives the count that losing an entry would lose: its own, or the
// first of those whose loss it tells.
func speaksFor(e Entry, g *Gap) uint64 {
	if g != nil {
		return g.First
	}
	return e.Seq
}
