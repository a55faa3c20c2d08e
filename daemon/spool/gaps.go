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

// sortedOrigins returns the keys in a fixed order.
func sortedOrigins[V any](m map[origin]V) []origin {
	return slices.SortedFunc(maps.Keys(m), func(a, b origin) int {
		return cmp.Or(cmp.Compare(a.run, b.run), cmp.Compare(a.sensor, b.sensor))
	})
}

// loss is a range of missing counts of an origin: from lo to hi, or from lo on if it is open.
// If it is uncertain, the counts may not be missing at all.
type loss struct {
	lo, hi    uint64
	open      bool
	uncertain bool
}

// gap returns the gap that reports a loss.
func (x loss) gap(reason string) Gap {
	g := Gap{Reason: reason, First: x.lo, Last: x.hi, Uncertain: x.uncertain}
	if x.open {
		g.Last = 0
	}
	return g
}

// join returns the smallest loss that includes both.
func (x loss) join(y loss) loss {
	return loss{lo: min(x.lo, y.lo), hi: max(x.hi, y.hi), open: x.open || y.open, uncertain: x.uncertain || y.uncertain}
}

// tally adds up what is dropped at one time, so that one gap per sensor can report it.
type tally struct {
	order     []origin
	losses    map[origin]loss
	parts     map[origin]*ids      // the counts that are known to be lost
	uncertain map[origin]loss      // counts that may have arrived after all, from the first to the last
	uncounted map[uint64]uncounted // entries without a count of their own, by the run that took them
	n         int                  // number of all dropped entries
}

// uncounted are dropped answers, faults and events.
type uncounted struct {
	n         int64
	uncertain bool // some may have arrived after all
}

func newTally() *tally {
	return &tally{losses: map[origin]loss{}, parts: map[origin]*ids{}, uncertain: map[origin]loss{}, uncounted: map[uint64]uncounted{}}
}

// addUncounted adds entries without a count of their own.
func (t *tally) addUncounted(run uint64, n int64, uncertain bool) {
	old := t.uncounted[run]
	t.uncounted[run] = uncounted{old.n + n, old.uncertain || uncertain}
}

// addLoss adds a loss.
func (t *tally) addLoss(o origin, x loss) {
	old, known := t.losses[o]
	if !known {
		t.order = append(t.order, o)
		t.losses[o] = x
		t.parts[o] = &ids{}
	}
	if !x.open {
		t.parts[o].add(x.lo, x.hi+1)
	}
	if known {
		t.losses[o] = old.join(x)
	}
}

// addUncertain adds entries that may have arrived after all. They get a gap of their own, so
// that the gap for the rest is certain.
func (t *tally) addUncertain(o origin, x loss) {
	if old, known := t.uncertain[o]; known {
		x.lo, x.hi = min(old.lo, x.lo), max(old.hi, x.hi)
	}
	x.uncertain = true
	t.uncertain[o] = x
}

// addSegment adds everything that a segment may have held.
func (t *tally) addSegment(g *segment) {
	for _, x := range g.sums {
		if x.hi > 0 {
			t.addLoss(origin{x.sensor, x.run}, loss{lo: x.lo, hi: x.hi, uncertain: true})
		}
	}
}

// addEntry adds an entry of a run. If it was sent, it may have arrived after all. If it is a
// gap, the gap is merged into the tally.
func (t *tally) addEntry(run uint64, form []byte, sent bool) {
	t.n++
	e, gap, err := decodeEntry(Events, form)
	run = cmp.Or(e.Run, run)
	o := origin{e.Sensor, e.Run}
	switch {
	case err != nil:
		t.addUncounted(run, 1, false)
	case gap != nil:
		t.addGap(run, o, *gap)
	case e.Seq > 0 && e.Sensor != "" && sent:
		t.addUncertain(o, loss{lo: e.Seq, hi: e.Seq})
	case e.Seq > 0 && e.Sensor != "":
		t.addLoss(o, loss{lo: e.Seq, hi: e.Seq})
	default:
		t.addUncounted(run, 1, sent)
	}
}

func (t *tally) addGap(run uint64, o origin, g Gap) {
	switch x := g.loss(); {
	case x.lo == 0:
	case x.uncertain && !x.open:
		t.addUncertain(o, x)
	default:
		t.addLoss(o, x)
	}
	if g.Count > 0 {
		t.addUncounted(run, g.Count, g.Uncertain)
	}
}

// originGap is a gap and its origin.
type originGap struct {
	origin
	Gap
}

// uncertainGaps returns the gaps for entries that may have arrived, one per origin. If the
// gap for the rest is uncertain too, it covers both.
func (t *tally) uncertainGaps(reason string) (out []originGap) {
	for _, o := range sortedOrigins(t.uncertain) {
		if !t.rest(o).uncertain {
			out = append(out, originGap{o, t.uncertain[o].gap(reason)})
		}
	}
	return out
}

// gaps returns the gaps for the rest, one per origin, and those for entries without a count,
// one per run.
func (t *tally) gaps(reason string) (out []originGap) {
	for _, o := range t.order {
		out = append(out, originGap{o, t.rest(o).gap(reason)})
	}
	for _, run := range slices.Sorted(maps.Keys(t.uncounted)) {
		x := t.uncounted[run]
		out = append(out, originGap{origin{run: run}, Gap{Reason: reason, Count: x.n, Uncertain: x.uncertain}})
	}
	return out
}

// rest returns the remaining loss of an origin. It is uncertain if some counts between the
// first and the last are not lost, because they are in another log or acknowledged.
func (t *tally) rest(o origin) loss {
	x, some := t.losses[o]
	if some && len(t.parts[o].spans) > 1 {
		x.uncertain = true
	}
	if y, both := t.uncertain[o]; both && x.uncertain {
		x.lo, x.hi = min(x.lo, y.lo), max(x.hi, y.hi)
	}
	return x
}

// gapBook holds the gaps that the broker does not have yet. Each gap is stored twice, as
// an event and in the ack file, so that damage to one file does not lose it. The ack file
// identifies it by the run and seq of its frame; when these are done it is no longer owed.
// The lock of the store guards a gapBook.
type gapBook struct {
	run        uint64              // this run's number
	owed       map[uint64]*owedGap // by the id of the event
	latest     map[origin]uint64   // by origin, the id of the latest gap that is not in latestSent
	latestSent map[origin]uint64   // by origin, the id of the latest gap of entries that were sent and may have arrived
	unrecorded []uint64            // the ids of gaps that are owed and that the ack file does not have
	news       bool                // there were such gaps since it was written: it must get what they cover, also if the broker has them
	settled    []frameKey          // gaps in the ack file that need not be there any longer
	damage     int                 // number of gaps that report damage found in this run
}

// owedGap is a gap that the broker does not have yet.
type owedGap struct {
	run      uint64 // the run of its frame; 0 is this run
	seq      uint64 // the seq of its frame
	form     []byte
	recorded bool // the ack file may have it
	damage   bool // it reports damage found in this run
}

// frameKey identifies a frame of the events.
type frameKey struct{ run, seq uint64 }

func newGapBook() gapBook {
	return gapBook{owed: map[uint64]*owedGap{}, latest: map[origin]uint64{}, latestSent: map[origin]uint64{}}
}

func (b *gapBook) key(x *owedGap) frameKey { return frameKey{cmp.Or(x.run, b.run), x.seq} }

// add adds a gap of this run. It is owed until it is removed.
func (b *gapBook) add(id uint64, g Gap, form []byte) {
	x := &owedGap{seq: id, form: form, damage: g.Reason == reasonDamaged}
	if x.damage {
		b.damage++
	}
	b.owed[id] = x
	b.unrecorded, b.news = append(b.unrecorded, id), true
}

// remove removes a gap that need not be sent any longer, and returns it; nil if the id is not
// that of a gap.
func (b *gapBook) remove(id uint64) *owedGap {
	x := b.owed[id]
	if x == nil {
		return nil
	}
	delete(b.owed, id)
	if h, ok := peek(x.form); ok {
		for _, latest := range []map[origin]uint64{b.latest, b.latestSent} {
			if o := (origin{string(h.sensor), h.run}); latest[o] == id {
				delete(latest, o)
			}
		}
	}
	if x.damage {
		b.damage--
	}
	if x.recorded {
		b.settled = append(b.settled, b.key(x))
	} else if i := slices.Index(b.unrecorded, id); i >= 0 { // the disk may never come back
		b.unrecorded = slices.Delete(b.unrecorded, i, i+1)
	}
	return x
}

// sorted returns the ids of the gaps in ascending order.
func (b *gapBook) sorted() []uint64 { return slices.Sorted(maps.Keys(b.owed)) }

// within returns the ids of the gaps that a segment spans.
func (b *gapBook) within(g *segment) (out []uint64) {
	for id := range b.owed {
		if g.class == Events && g.lo <= id && id < g.hi {
			out = append(out, id)
		}
	}
	return out
}

// runs adds the runs of the gaps.
func (b *gapBook) runs(to map[uint64]bool, which func(*owedGap) bool) {
	for _, x := range b.owed {
		if h, ok := peek(x.form); ok && which(x) {
			to[h.run] = true
		}
	}
}

// forgetFiles records that no file has any of the gaps.
func (b *gapBook) forgetFiles() {
	b.unrecorded, b.settled = b.sorted(), nil
	b.news = b.news || len(b.unrecorded) > 0
	for id, x := range b.owed {
		x.run, x.seq, x.recorded = 0, id, false
	}
}

// extended merges a gap with the latest one of the same origin, if both report the same
// continuing drop, so that a long outage leaves few gaps. It returns the merged gap, and the
// id of the one that it replaces. ok is false if they cannot be merged, for example because
// the earlier one has been sent; events before cursor have been.
func (b *gapBook) extended(o origin, g Gap, latest map[origin]uint64, cursor uint64) (all Gap, before uint64, ok bool) {
	id, known := latest[o]
	x := b.owed[id]
	if !known || x == nil || id < cursor || g.Reason != reasonFull && g.Reason != reasonOld {
		return g, 0, false
	}
	_, old, err := decodeEntry(Events, x.form)
	if err != nil || old == nil || old.Reason != g.Reason {
		return g, 0, false
	}
	p, q := old.loss(), g.loss()
	if p.open || q.open || q.lo != p.hi+1 && !(p.uncertain && q.uncertain) {
		return g, 0, false
	}
	return p.join(q).gap(g.Reason), id, true
}
