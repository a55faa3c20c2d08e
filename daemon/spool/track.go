package spool

// trace is how far a sensor has come in a run, in the files of one lane.
type trace struct {
	last   uint64 // its latest count
	open   bool   // it has not come again since damage
	before uint64 // its count before that
}

// tracker follows the counts of the sensors through the files of one lane, in
// order, and works out what damage may have cost.
type tracker struct {
	traces map[origin]*trace
	hit    map[uint64]bool // runs with damage so far
	holes  *tally
}

func newTracker() *tracker {
	return &tracker{traces: map[origin]*trace{}, hit: map[uint64]bool{}, holes: newTally()}
}

// record takes note of a record.
func (t *tracker) record(o origin, seq uint64) {
	x := t.traces[o]
	if x == nil {
		x = &trace{open: t.hit[o.run]} // its first ones may have been in the damage
		t.traces[o] = x
	}
	if x.open {
		x.open = false
		if seq > x.before+1 {
			t.holes.lose(o, loss{lo: x.before + 1, hi: seq - 1, uncertain: true})
		}
	}
	x.last = max(x.last, seq)
}

// damage takes note that records of a run may be missing here.
func (t *tracker) damage(run uint64) {
	t.hit[run] = true
	for o, x := range t.traces {
		if o.run == run && !x.open {
			x.open, x.before = true, x.last
		}
	}
}

// unseen takes note of the sensors that had records in a damaged run, and in
// this lane, and of which nothing can be read: all they had may have been in
// the damage.
func (t *tracker) unseen(class Class, n notes) {
	missed := map[origin]uint64{}
	for run := range t.hit {
		for sensor, m := range n.marks[run] {
			o := origin{sensor, run}
			if t.traces[o] == nil && m.in[class] && m.seq > 0 {
				missed[o] = m.seq
			}
		}
	}
	for _, o := range sorted(missed) {
		t.holes.lose(o, loss{lo: 1, hi: missed[o], uncertain: true})
	}
}

// finish gives what the damage may have cost.
func (t *tracker) finish() *tally {
	for _, o := range sorted(t.traces) {
		if x := t.traces[o]; x.open {
			t.holes.lose(o, loss{lo: x.before + 1, open: true, uncertain: true})
		}
	}
	return t.holes
}

// safe is how far an origin is known to have come without damage, 0 where it is
// not known to have come at all.
func (t *tracker) safe(o origin) uint64 {
	switch x := t.traces[o]; {
	case x == nil:
		return 0
	case x.open:
		return x.before
	default:
		return x.last
	}
}

// crashed works out what the end of the runs that did not stop in good order
// may have cost: for each of their sensors, all from some count on.
func crashed(runs map[uint64]bool, n notes, tracks [classes]*tracker) *tally {
	where := map[origin]mark{}
	for run := range runs {
		for sensor, m := range n.marks[run] {
			where[origin{sensor, run}] = m
		}
	}
	for i, t := range tracks {
		for o := range t.traces {
			if runs[o.run] {
				m := where[o]
				m.in[i] = true
				where[o] = m
			}
		}
	}
	out := newTally()
	for _, o := range sorted(where) {
		out.lose(o, loss{lo: safeUntil(o, where[o], tracks) + 1, open: true, uncertain: true})
	}
	return out
}

// safeUntil is the count up to which nothing of a sensor can be lost. A count
// found in one lane's files says that the lower ones of that lane are safe,
// but nothing about the other lane's.
func safeUntil(o origin, m mark, tracks [classes]*tracker) uint64 {
	least, some := uint64(0), false
	for i, has := range m.in {
		if !has {
			continue
		}
		seq := tracks[i].safe(o)
		if !some || seq < least {
			least, some = seq, true
		}
	}
	return max(least, m.seq)
}
