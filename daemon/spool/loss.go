package spool

import (
	"fieldpost/daemon/clock"
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
	parts  map[origin]*ids // the counts that are known to be lost
	others int64           // records without a count of their own: answers, faults, events
	n      int             // all records given up
}

func newTally() *tally { return &tally{losses: map[origin]loss{}, parts: map[origin]*ids{}} }

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

// give up a record. A gap that is given up lives on in the tally.
func (t *tally) giveUp(payload []byte) {
	t.n++
	r, err := decodeRecord(payload)
	switch {
	case err != nil:
		t.others++
	case r.Kind == Gap:
		t.merge(r)
	case r.Seq > 0 && r.Sensor != "":
		t.lose(origin{r.Sensor, r.Run}, loss{lo: r.Seq, hi: r.Seq})
	default:
		t.others++
	}
}

func (t *tally) merge(r Record) {
	if x := claim(r); x.lo > 0 {
		t.lose(origin{r.Sensor, r.Run}, x)
	}
	if n, some := r.field("count").(int64); some {
		t.others += n
	}
}

// claim is what a gap says is missing; its lo is 0 where it is about no sensor.
func claim(r Record) loss {
	var x loss
	if after, ok := r.field("after_seq").(int64); ok {
		x.lo = uint64(after) + 1
	}
	to, closed := r.field("to_seq").(int64)
	x.hi, x.open = uint64(to), !closed
	certain, said := r.field("certain").(bool)
	x.uncertain = said && !certain
	return x
}

// reason is a gap's.
func (r Record) reason() string {
	reason, _ := r.field("reason").(string)
	return reason
}

// field gives a field's value, or nil.
func (r Record) field(name string) any {
	for _, f := range r.Fields {
		if f.Name == name {
			return f.Value
		}
	}
	return nil
}

// gaps gives the records that tell of it, one for each origin. Where some
// between the first and the last that are lost are not, as they are edges or
// have been acknowledged, the gap is not certain.
func (t *tally) gaps(at clock.Stamp, reason string) []Record {
	var out []Record
	for _, o := range t.order {
		x := t.losses[o]
		x.uncertain = x.uncertain || len(t.parts[o].spans) > 1
		out = append(out, gapRecord(at, o, x, reason))
	}
	if t.others > 0 {
		out = append(out, Record{Kind: Gap, Stamp: at, Fields: []sensors.Field{
			{Name: "reason", Value: reason},
			{Name: "count", Value: t.others},
		}})
	}
	return out
}

func gapRecord(at clock.Stamp, o origin, x loss, reason string) Record {
	r := Record{Kind: Gap, Sensor: o.sensor, Run: o.run, Stamp: at}
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
func speaksFor(r Record) uint64 {
	if r.Kind != Gap {
		return r.Seq
	}
	return claim(r).lo
}
