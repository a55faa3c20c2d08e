package spool

// tracker follows the counts of the sensors through the files of one lane, in
// order, and works out what damage may have cost.
type tracker struct {
	last  map[origin]uint64 // the latest count of each
	open  map[origin]uint64 // those that have not come again since damage, and their count before it
	hit   map[uint64]bool   // runs with damage so far
	holes *tally
}

func newTracker() *tracker {
	return &tracker{last: map[origin]uint64{}, open: map[origin]uint64{}, hit: map[uint64]bool{}, holes: newTally()}
}

// record takes note of a record.
func (t *tracker) record(o origin, seq uint64) {
	before, open := t.open[o]
	_, known := t.last[o]
	if !known && t.hit[o.run] {
		open = true // its first ones may have been in the damage
	}
	if open {
		delete(t.open, o)
		if seq > before+1 {
			t.holes.lose(o, loss{lo: before + 1, hi: seq - 1, uncertain: true})
		}
	}
	t.last[o] = max(t.last[o], seq)
}

// damage takes note that records of a run may be missing here.
func (t *tracker) damage(run uint64) {
	t.hit[run] = true
	for o, seq := range t.last {
		if _, open := t.open[o]; o.run == run && !open {
			t.open[o] = seq
		}
	}
}

// unseen takes note of the sensors that had records in a damaged run, and in
// this lane, and of which nothing can be read: all they had may have been in
// the damage.
func (t *tracker) unseen(lane int, n notes) {
	missed := map[origin]uint64{}
	for run := range t.hit {
		for sensor, m := range n.marks[run] {
			o := origin{sensor, run}
			if _, known := t.last[o]; !known && m.lanes[lane] && m.seq > 0 {
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
	for o, seq := range t.open {
		t.holes.lose(o, loss{lo: seq + 1, open: true, uncertain: true})
	}
	return t.holes
}

// safe is how far an origin is known to have come without damage.
func (t *tracker) safe(o origin) (seq uint64, known bool) {
	if seq, open := t.open[o]; open {
		return seq, true
	}
	seq, known = t.last[o]
	return seq, known
}

// crashed works out what the end of the runs that did not stop in good order
// may have cost: for each of their sensors, all from some count on.
func crashed(runs map[uint64]bool, n notes, tracks [lanes]*tracker) *tally {
	where := map[origin]mark{}
	for run := range runs {
		for sensor, m := range n.marks[run] {
			where[origin{sensor, run}] = m
		}
	}
	for i, t := range tracks {
		for o := range t.last {
			if runs[o.run] {
				m := where[o]
				m.lanes[i] = true
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
func safeUntil(o origin, m mark, tracks [lanes]*tracker) uint64 {
	least, some := uint64(0), false
	for i, has := range m.lanes {
		if !has {
			continue
		}
		seq, _ := tracks[i].safe(o)
		if !some || seq < least {
			least, some = seq, true
		}
	}
	return max(least, m.seq)
}
