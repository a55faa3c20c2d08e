package spool

import (
	"cmp"
	"maps"
	"slices"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/message"
	"fieldpost/sensors"
)

// The reasons of gaps.
const (
	reasonFull    = "spool_full" // dropped to keep within MaxBytes or Memory
	reasonOld     = "too_old"    // dropped because of MaxAge
	reasonCrash   = "crash"      // not written when the daemon was killed or the power cut
	reasonDamaged = "damaged"    // could not be read back
	reasonRefused = "refused"    // set aside because the broker will not take it
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
	r, err := message.Decode(payload)
	run = cmp.Or(r.Run, run)
	switch {
	case err != nil:
		t.other(run, 1, false)
	case r.Kind == message.Gap:
		t.merge(run, r)
	case r.Seq > 0 && r.Sensor != "" && sent:
		t.mayLose(origin{r.Sensor, r.Run}, loss{lo: r.Seq, hi: r.Seq})
	case r.Seq > 0 && r.Sensor != "":
		t.lose(origin{r.Sensor, r.Run}, loss{lo: r.Seq, hi: r.Seq})
	default:
		t.other(run, 1, sent)
	}
}

func (t *tally) merge(run uint64, r message.Record) {
	switch o, x := (origin{r.Sensor, r.Run}), claim(r); {
	case x.lo == 0:
	case x.uncertain && !x.open:
		t.mayLose(o, x)
	default:
		t.lose(o, x)
	}
	if n, some := r.Field("count").(int64); some {
		t.other(run, n, claim(r).uncertain)
	}
}

// claim is what a gap says is missing; its lo is 0 where it is about no sensor.
func claim(r message.Record) loss {
	var x loss
	if after, ok := r.Field("after_seq").(int64); ok {
		x.lo = uint64(after) + 1
	}
	to, closed := r.Field("to_seq").(int64)
	x.hi, x.open = uint64(to), !closed
	certain, said := r.Field("certain").(bool)
	x.uncertain = said && !certain
	return x
}

// reasonOf is a gap's reason.
func reasonOf(r message.Record) string {
	reason, _ := r.Field("reason").(string)
	return reason
}

// maybes gives the records that tell of what may have come, one for each
// origin, but where the gap that tells of the rest is not certain either: then
// that tells of both.
func (t *tally) maybes(at clock.Stamp, reason string) []message.Record {
	var out []message.Record
	for _, o := range sorted(t.maybe) {
		if !t.rest(o).uncertain {
			out = append(out, gapRecord(at, o, t.maybe[o], reason))
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

// gaps gives the records that tell of the rest, one for each origin.
func (t *tally) gaps(at clock.Stamp, reason string) []message.Record {
	var out []message.Record
	for _, o := range t.order {
		out = append(out, gapRecord(at, o, t.rest(o), reason))
	}
	for _, run := range slices.Sorted(maps.Keys(t.others)) {
		r := message.Record{Kind: message.Gap, Run: run, Stamp: at, Fields: []sensors.Field{
			{Name: "reason", Value: reason},
			{Name: "count", Value: t.others[run].n},
		}}
		if t.others[run].unsure {
			r.Fields = append(r.Fields, sensors.Field{Name: "certain", Value: false})
		}
		out = append(out, r)
	}
	return out
}

func gapRecord(at clock.Stamp, o origin, x loss, reason string) message.Record {
	r := message.Record{Kind: message.Gap, Sensor: o.sensor, Run: o.run, Stamp: at}
	r.Fields = append(r.Fields, sensors.Field{Name: "after_seq", Value: int64(x.lo - 1)})
	if !x.open {
		r.Fields = append(r.Fields, sensors.Field{Name: "to_seq", Value: int64(x.hi)})
	}
	r.Fields = append(r.Fields, sensors.Field{Name: "reason", Value: reason})
	if x.uncertain {
		r.Fields = append(r.Fields, sensors.Field{Name: "certain", Value: false})
	}
	return r
}

// speaksFor gives the count that losing the record would lose: its own, or the
// first of those whose loss it tells.
func speaksFor(r message.Record) uint64 {
	if r.Kind != message.Gap {
		return r.Seq
	}
	return claim(r).lo
}
