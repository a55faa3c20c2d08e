package spool

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"fieldpost/daemon/durable"
)

// found is what a directory holds.
type found struct {
	known   uint64 // the greatest run number that is mentioned anywhere
	counted bool   // the run file says so
	segs    [classes][]*segment
	done    [classes]ids               // of the ids of segs
	given   [classes]map[string]uint64 // by sensor, behind the last of these that an earlier run may have given out
	pending [classes]int
	empty   []*segment // files that owe nothing
	holes   [classes]*tally
	crash   *tally
	torn    []*segment // those of segs whose end may not be durable, or none of ours
	bad     []*segment // damaged files, some of them in segs as well
	gaps    map[uint64]*owedGap
	missing [][]byte // gaps that are owed and in no file of events
	damaged []string // what they are called, and what is wrong

	identity identity
	sources  tenures // who took what is here

	room   span            // of the ids
	ours   bool            // the present run has had it before
	taken  bool            // another run of its number has left something here
	number [classes]uint32 // of the greatest segments of the present run
}

// own is what the reading of a directory need know of the present run: what it
// may have left there before the directory was taken away and put back.
type own struct {
	run    uint64 // 0 while it has no number
	source Source
	wanted map[noteKey]*ids // frames that are owed, and lost with a directory it had
	room   span             // for the ids of what is found
}

// gave takes note of how far an earlier run may have given out a flow.
func (f *found) gave(class Class, sensor string, until uint64) {
	if f.given[class] == nil {
		f.given[class] = map[string]uint64{}
	}
	f.given[class][sensor] = max(f.given[class][sensor], until)
}

// damagedExt ends the name of a file set aside.
const damagedExt = ".damaged"

// loader reads a directory.
type loader struct {
	disk   disk
	own    own
	notes  notes
	ended  map[uint64]bool // runs that did not stop in good order
	tracks [classes]*tracker
	names  map[string]string // one copy of each sensor's name
	told   map[frameKey]bool // gaps found
	next   uint64            // the id of the next record found
	f      found
}

// load reads the directory. It changes nothing that matters. The error is the disk's; then nothing is known.
func load(d disk, o own) (*found, error) {
	names, err := d.List()
	if err != nil {
		return nil, err
	}
	l := &loader{disk: d, own: o, names: map[string]string{}, told: map[frameKey]bool{}, ended: map[uint64]bool{}}
	l.f.gaps, l.f.room = map[uint64]*owedGap{}, o.room
	names = l.leftovers(names)
	segs := segmentsOf(names)
	if err := l.readHead(segs, slices.Contains(names, stateName)); err != nil {
		return nil, err
	}
	l.stolen(&segs)
	for i := range segs {
		l.tracks[i] = newTracker()
		l.next = o.room.lo + 1
		for k, g := range segs[i] {
			last := k+1 == len(segs[i]) || segs[i][k+1].run != g.run
			l.segment(g, last && l.ended[g.run])
		}
		l.f.done[i].add(l.next, o.room.hi)
		l.f.done[i].add(o.room.lo, o.room.lo+1)
	}
	if !l.f.ours { // else all gaps are in memory
		l.missingGaps()
	}
	l.f.crash = crashed(l.ended, l.notes, l.tracks)
	for i, t := range l.tracks {
		t.unseen(Class(i), l.notes)
		l.f.holes[i] = t.finish()
	}
	return &l.f, nil
}

// leftovers deals with files that a crash left incomplete. One whose place is
// empty was complete: its place was made empty for it.
func (l *loader) leftovers(names []string) []string {
	var out []string
	for _, name := range names {
		final, isTmp := strings.CutSuffix(name, durable.TmpExt)
		if !isTmp {
			out = append(out, name)
			continue
		}
		if _, isSegment := parseSegment(final); isSegment && !slices.Contains(names, final) {
			if l.disk.Rename(name, final) == nil {
				out = append(out, final)
			}
			continue
		}
		_ = l.disk.Remove(name) // it is in nobody's way
	}
	return out
}

func segmentsOf(names []string) (segs [classes][]*segment) {
	for _, name := range names {
		if g, ok := parseSegment(name); ok {
			segs[g.class] = append(segs[g.class], g)
		}
	}
	for i := range segs {
		slices.SortFunc(segs[i], bySegment)
	}
	return segs
}

func bySegment(a, b *segment) int {
	return cmp.Or(cmp.Compare(a.run, b.run), cmp.Compare(a.number, b.number))
}

// stolen puts the segments in that should be there and are not, and leaves out
// those that were to be removed.
func (l *loader) stolen(segs *[classes][]*segment) {
	for k := range l.notes.files {
		g := &segment{class: k.class, run: k.run, number: k.number, gone: true}
		i, there := slices.BinarySearchFunc(segs[k.class], g, bySegment)
		if !there && !l.notes.removed[k] {
			segs[k.class] = slices.Insert(segs[k.class], i, g)
		}
	}
	for i := range segs {
		segs[i] = slices.DeleteFunc(segs[i], func(g *segment) bool {
			gone := l.notes.removed[fileKey{noteKey{g.class, g.run}, g.number}]
			if gone {
				l.f.empty = append(l.f.empty, g)
			}
			return gone
		})
	}
}

// missingGaps finds the gaps that are noted, and whose record is not there.
func (l *loader) missingGaps() {
	keys := slices.SortedFunc(maps.Keys(l.notes.gaps), func(a, b frameKey) int {
		return cmp.Or(cmp.Compare(a.run, b.run), cmp.Compare(a.seq, b.seq))
	})
	for _, k := range keys {
		if done := l.notes.done[noteKey{Events, k.run}]; !l.told[k] && (done == nil || !done.has(k.seq)) {
			l.f.missing = append(l.f.missing, slices.Clone(l.notes.gaps[k]))
		}
	}
}

// readHead reads the run number and the acks, and tells which runs ended
// badly.
func (l *loader) readHead(segs [classes][]*segment, ran bool) error {
	st, err := readState(l.disk)
	if err != nil && !errors.Is(err, errState) {
		return err
	}
	data, nerr := l.disk.Read(notesName, maxNotes)
	if nerr != nil && !errors.Is(nerr, fs.ErrNotExist) {
		return fmt.Errorf("read %q: %w", notesName, nerr)
	}
	l.notes = readNotes(data)
	if err := l.readIdentity(); err != nil {
		return err
	}
	l.f.known = st.run
	runs := map[uint64]bool{}
	for i := range segs {
		for _, g := range segs[i] {
			runs[g.run] = true
		}
	}
	for run := range l.notes.marks {
		runs[run] = true
	}
	for _, t := range l.f.identity.runs { // one that wrote no more than that
		l.f.known = max(l.f.known, t.hi)
	}
	who, known := l.f.sources.of(l.own.run)
	l.f.ours = l.own.run > 0 && known && who == l.own.source
	l.f.taken = l.own.run > 0 && runs[l.own.run] && !l.f.ours
	for run := range runs {
		l.f.known = max(l.f.known, run)
		if run > st.run && run != l.own.run {
			l.ended[run] = true
		}
	}
	if ran && !st.stopped && st.run != l.own.run {
		l.ended[st.run] = true
		for sensor, in := range st.sensors {
			l.notes.sensor(st.run, sensor, in, 0)
		}
	}
	if lost := !ran && len(runs) > 0; err != nil || lost {
		// Which of the runs was the last is not known: take the greatest.
		l.ended = map[uint64]bool{l.f.known: true}
		l.f.damaged = append(l.f.damaged, fmt.Sprintf("%s: %v", stateName, errState))
		return nil
	}
	l.f.counted = true
	return nil
}

// readIdentity reads whose the directory is, and who took what is in it.
func (l *loader) readIdentity() (err error) {
	l.f.identity, err = readIdentity(l.disk)
	if errors.Is(err, errIdentity) {
		l.f.damaged = append(l.f.damaged, fmt.Sprintf("%s: %v", identityName, err))
	} else if err != nil {
		return err
	}
	l.f.sources = append(l.notes.sources, l.f.identity.runs...)
	return nil
}

// sorted gives the keys in a fixed order.
func sorted[V any](m map[origin]V) []origin {
	return slices.SortedFunc(maps.Keys(m), func(a, b origin) int {
		return cmp.Or(cmp.Compare(a.run, b.run), cmp.Compare(a.sensor, b.sensor))
	})
}
