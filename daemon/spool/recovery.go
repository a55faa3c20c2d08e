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
	"fieldpost/daemon/regular"
)

// found is what a directory contains.
type found struct {
	known   uint64 // the greatest run number found anywhere
	counted bool   // known is from the run file
	logs    [classes]foundLog
	empty   []*segment // files without owed entries
	torn    []*segment // files whose end may not be durable, or may not be from us
	damaged []*segment // damaged files, some of which are also in logs
	damage  []string   // their names, and what is wrong
	crash   *tally     // what runs that did not stop in order may have lost
	crashes []crashed  // those runs, ascending

	gaps    map[uint64]*owedGap // by the id of the event
	missing [][]byte            // the forms of owed gaps that are in no file of events

	identity identity
	sources  runSources // who took the entries found here

	ids   span // ids for the entries found
	ours  bool // this run has used the directory before
	taken bool // another run with the same number has left something here
}

// crashed is a run that did not stop in order.
type crashed struct {
	run     uint64
	unknown string // why its losses are not known exactly; "" if they are
}

// foundLog is what a directory contains of one log.
type foundLog struct {
	segs    []*segment
	done    ids               // done ids, within those of segs
	given   map[string]uint64 // by sensor, after the last one that an earlier run may have returned
	pending int
	damage  *tally // what may have been lost by damage
	number  uint32 // number of this run's latest segment
}

// owesAny reports whether any owed entry was found.
func (f *found) owesAny() bool {
	return slices.ContainsFunc(f.logs[:], func(l foundLog) bool { return len(l.segs) > 0 })
}

// markAllGiven marks everything that was found as returned by Next.
func (f *found) markAllGiven() {
	for i := range f.logs {
		for _, g := range f.logs[i].segs {
			for _, sensor := range g.sensors() {
				f.logs[i].markGiven(sensor, g.hi)
			}
		}
	}
}

// markGiven records how far an earlier run may have returned a flow.
func (l *foundLog) markGiven(sensor string, until uint64) {
	if l.given == nil {
		l.given = map[string]uint64{}
	}
	l.given[sensor] = max(l.given[sensor], until)
}

// ownRun is what load must know about this run, which may have used the directory before it
// was taken away and put back.
type ownRun struct {
	run    uint64 // 0 if it has no number yet
	source Source
	wanted map[logRun]*ids // owed frames that were lost with an earlier directory
	ids    span            // ids for the entries found
}

// damagedExt is the end of the name of a file that is set aside.
const damagedExt = ".damaged"

// loader reads a directory.
type loader struct {
	disk     disk
	own      ownRun
	acks     ackState
	crashed  map[uint64]string // runs that did not stop in order, and why their losses are not known exactly
	trackers [classes]*countTracker
	events   *eventTracker
	risks    earlierRisks
	kill     killLosses
	names    map[string]string // one copy of each sensor's name
	gapSeen  map[frameKey]bool // gaps found
	next     uint64            // the id of the next entry found
	f        found
}

// load reads the directory. It changes only files that a crash left incomplete. An error
// comes from the disk; then nothing was loaded.
func load(d disk, own ownRun, risks earlierRisks) (*found, error) {
	names, err := d.List()
	if err != nil {
		return nil, err
	}
	l := &loader{disk: d, own: own, risks: risks, names: map[string]string{}, gapSeen: map[frameKey]bool{}, crashed: map[uint64]string{}}
	l.f.gaps, l.f.ids = map[uint64]*owedGap{}, own.ids
	names = l.finishReplacing(names)
	segs := segmentsOf(names)
	if err := l.readHead(segs, slices.Contains(names, runName)); err != nil {
		return nil, err
	}
	l.compareWithAcks(&segs)
	l.events = newEventTracker(&l.acks)
	for i := range segs {
		l.trackers[i] = newCountTracker()
		l.next = own.ids.lo + 1
		for k, g := range segs[i] {
			last := k+1 == len(segs[i]) || segs[i][k+1].run != g.run
			l.readSegment(g, last && l.hasCrashed(g.run))
		}
		l.f.logs[i].done.add(l.next, own.ids.hi)
		l.f.logs[i].done.add(own.ids.lo, own.ids.lo+1)
	}
	if !l.f.ours { // otherwise all gaps are in memory
		l.findMissingGaps()
	}
	l.loseCrashed()
	for i, t := range l.trackers {
		t.loseUnseen(Class(i), l.acks, segs[i])
		l.f.logs[i].damage = t.losses(Class(i), l.acks)
	}
	if l.f.ours { // its losses were reported when the directory was lost
		delete(l.events.runs, own.run)
	}
	l.events.addTo(l.f.logs[Events].damage)
	return &l.f, nil
}

// hasCrashed reports whether a run did not stop in order.
func (l *loader) hasCrashed(run uint64) bool {
	_, crashed := l.crashed[run]
	return crashed
}

// loseCrashed determines what the crashed runs have lost: if the risk file of a run can be
// used, what that says; otherwise all that it may have lost.
func (l *loader) loseCrashed() {
	if n := l.kill.note; n != nil {
		l.crashed[n.run] = l.kill.unusable(l.acks)
	}
	unknown := map[uint64]bool{}
	for _, run := range slices.Sorted(maps.Keys(l.crashed)) {
		x := crashed{run, l.crashed[run]}
		l.f.crashes = append(l.f.crashes, x)
		if x.unknown != "" {
			unknown[run] = true
		}
	}
	l.f.crash = crashLosses(unknown, l.acks, l.trackers)
	if n := l.kill.note; n != nil && !unknown[n.run] {
		l.kill.addTo(l.f.crash)
	}
}

// finishReplacing handles temporary files that a crash left. If a segment is missing that has
// a temporary file, that file is complete, and replaces it. All others are removed.
func (l *loader) finishReplacing(names []string) []string {
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
		_ = l.disk.Remove(name) // if it stays, it does no harm
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
		slices.SortFunc(segs[i], compareSegments)
	}
	return segs
}

// compareWithAcks adds the segments that are missing, and removes those that are not needed.
func (l *loader) compareWithAcks(segs *[classes][]*segment) {
	for k := range l.acks.written {
		g := &segment{class: k.class, run: k.run, number: k.number, missing: true}
		i, there := slices.BinarySearchFunc(segs[k.class], g, compareSegments)
		if !there && !l.acks.removed[k] {
			segs[k.class] = slices.Insert(segs[k.class], i, g)
		}
	}
	for i := range segs {
		segs[i] = slices.DeleteFunc(segs[i], func(g *segment) bool {
			removed := l.acks.isRemoved(g)
			if removed {
				l.f.empty = append(l.f.empty, g)
			}
			return removed
		})
	}
}

// findMissingGaps finds the gaps that are in the ack file but in no segment.
func (l *loader) findMissingGaps() {
	keys := slices.SortedFunc(maps.Keys(l.acks.gaps), func(a, b frameKey) int {
		return cmp.Or(cmp.Compare(a.run, b.run), cmp.Compare(a.seq, b.seq))
	})
	for _, k := range keys {
		if !l.gapSeen[k] && !l.acks.isDone(logRun{Events, k.run}, k.seq) {
			form := slices.Clone(l.acks.gaps[k])
			l.f.missing = append(l.f.missing, form)
			if h, ok := peek(form); ok {
				l.kill.saw(h, form)
			}
		}
	}
}

// readHead reads the run file and the ack file, and determines which runs crashed.
func (l *loader) readHead(segs [classes][]*segment, hasRunFile bool) error {
	last, runErr, err := l.readSmall()
	if err != nil {
		return err
	}
	l.f.known = last.run
	runs := map[uint64]bool{}
	for i := range segs {
		for _, g := range segs[i] {
			runs[g.run] = true
		}
	}
	for run := range l.acks.sensors {
		runs[run] = true
	}
	for _, x := range l.f.identity.runs { // a run that wrote nothing else
		l.f.known = max(l.f.known, x.hi)
	}
	who, known := l.f.sources.of(l.own.run)
	l.f.ours = l.own.run > 0 && known && who == l.own.source
	l.f.taken = l.own.run > 0 && runs[l.own.run] && !l.f.ours
	for run := range runs {
		l.f.known = max(l.f.known, run)
		if run > last.run && run != l.own.run {
			l.crashed[run] = riskNotLast
		}
	}
	if hasRunFile && !last.stopped && last.run != l.own.run {
		l.crashed[last.run] = ""
		for sensor, in := range last.sensors {
			l.acks.addSensor(last.run, sensor, in, 0)
		}
	}
	if runErr == nil && !hasRunFile && len(runs) > 0 {
		runErr = errRunFile
		l.f.damage = append(l.f.damage, fmt.Sprintf("%s: %v", runName, runErr))
	}
	if runErr != nil {
		// It is unknown which run was the last, so take the greatest.
		l.crashed = map[uint64]string{l.f.known: riskUnknownRun}
		return nil
	}
	l.f.counted = true
	if l.hasCrashed(last.run) {
		who, _ := l.f.sources.of(last.run)
		x := l.risks.of(last.run, who, l.disk.Place())
		if l.crashed[last.run] = x.unusable; x.note != nil {
			l.kill = newKillLosses(x.note)
		}
	}
	return nil
}

// smallFile is what was read of the run file, the ack file or the identity file.
type smallFile struct {
	name string
	data []byte // nil if there is none
	err  error
}

func readSmall(d disk, name string, most int) smallFile {
	data, err := d.Read(name, most)
	if errors.Is(err, fs.ErrNotExist) {
		data, err = nil, nil
	}
	return smallFile{name, data, err}
}

// errDisk returns the error if none of some files can be read: it is the disk, which may work
// again later. If another one can be read, a file that cannot is damaged; for example, it has a
// bad sector. So is what is no file.
func errDisk(files ...smallFile) (err error) {
	for _, x := range files {
		switch {
		case x.data != nil:
			return nil
		case x.err != nil && !errors.Is(x.err, regular.ErrKind):
			err = cmp.Or(err, fmt.Errorf("read %q: %w", x.name, x.err))
		}
	}
	return err
}

// readSmall reads the run file, the ack file and the identity file. An error of the run file is
// that it is damaged; err comes from the disk.
func (l *loader) readSmall() (last runFile, runErr, err error) {
	run, acks, identity := readSmall(l.disk, runName, maxRunFile), readSmall(l.disk, ackName, maxAckFile), readSmall(l.disk, identityName, maxIdentity)
	if err := errDisk(run, acks, identity); err != nil {
		return runFile{}, nil, err
	}
	if last, runErr = runFileOf(run); runErr != nil {
		l.f.damage = append(l.f.damage, fmt.Sprintf("%s: %v", runName, runErr))
	}
	l.acks = readAcks(acks.data)
	if acks.err != nil {
		l.f.damage = append(l.f.damage, fmt.Sprintf("%s: %v", ackName, acks.err))
	}
	if l.f.identity, err = identityOf(identity); err != nil {
		l.f.damage = append(l.f.damage, fmt.Sprintf("%s: %v", identityName, err))
	}
	l.f.sources = append(l.acks.sources, l.f.identity.runs...)
	return last, runErr, nil
}

// readSegment reads one segment file. torn says that its run crashed while it may have been
// writing to the file.
func (l *loader) readSegment(g *segment, torn bool) {
	found := &l.f.logs[g.class]
	if g.run == l.own.run {
		found.number = max(found.number, g.number)
	}
	if l.acks.isRemoved(g) { // an earlier segment has replaced it
		l.f.empty = append(l.f.empty, g)
		return
	}
	if g.missing {
		const why = "is missing"
		l.damage(g, why)
		l.events.damage(g, 0)
		l.f.damage = append(l.f.damage, g.file()+": "+why)
		return
	}
	data, err := l.disk.Read(g.file(), maxFile+1)
	if err != nil {
		l.damage(g, err.Error())
		l.events.damage(g, 0)
		l.addDamaged(g, err.Error())
		return
	}
	x := l.scanSegment(g, data, torn)
	l.next = x.id
	for _, j := range l.acks.joined[logRun{g.class, g.run}] {
		if j.number == g.number && x.last != nil && x.id-1-g.off == j.seq {
			for _, n := range j.others {
				l.acks.removed[segmentKey{logRun{g.class, g.run}, n}] = true
			}
		}
	}
	if x.last != nil {
		g.setStamps(nil, x.last)
	}
	if g.size = int64(x.end); x.damage != "" {
		g.size = int64(len(data))
		l.addDamaged(g, x.damage)
	}
	g.synced, g.syncedUntil = g.size, g.hi
	switch {
	case g.live > 0:
		if torn {
			l.f.torn = append(l.f.torn, g)
		}
		l.markGiven(g)
		found.segs = append(found.segs, g)
		found.pending += g.live
	case !g.damaged:
		l.f.empty = append(l.f.empty, g)
	}
}

// markGiven records which entries of a segment an earlier run may have returned: what the
// last run recorded at an orderly stop, or else all.
func (l *loader) markGiven(g *segment) {
	for _, sensor := range g.sensors() {
		k := givenKey{logRun{g.class, g.run}, sensor, g.class == Events}
		seq, recorded := l.acks.given[k]
		if !recorded {
			seq, recorded = l.acks.given[givenKey{k.logRun, "", true}]
		}
		until := g.hi
		if recorded && len(l.crashed) == 0 {
			first := g.lo - g.off
			until = g.lo + min(max(seq, first)-first, g.hi-g.lo)
		}
		if until > g.lo {
			l.f.logs[g.class].markGiven(sensor, until)
		}
	}
}

// damage records that entries of a segment may be missing here, and why.
func (l *loader) damage(g *segment, why string) {
	l.trackers[g.class].damage(g.run)
	l.kill.sawDamage(g, why)
}

// addDamaged records a damaged file, and what is wrong with it. Its intact entries are used.
// It is set aside after the gaps for the others are on disk.
func (l *loader) addDamaged(g *segment, why string) {
	g.damaged = true
	l.f.damage = append(l.f.damage, g.file()+": "+why)
	l.f.damaged = append(l.f.damaged, g)
}

// scanned is what a file contains.
type scanned struct {
	last   []byte // form of its last entry
	id     uint64 // behind its last entry
	damage string // the first thing that is wrong with it; "" if nothing is
	end    int    // behind its last frame
}

// What can be wrong with the header of a segment file.
const (
	headerOfAnother = "has the header of another segment"
	headerDamaged   = "the header is damaged"
)

// scanSegment adds the entries of a segment file, and looks for damage.
func (l *loader) scanSegment(g *segment, data []byte, torn bool) scanned {
	at, good := g.scan(data)
	x := scanned{id: l.next, end: at.Pos()}
	damage := func(format string, args ...any) {
		why := fmt.Sprintf(format, args...)
		x.damage = cmp.Or(x.damage, why)
		l.damage(g, why)
	}
	if !good && isAnother(data) {
		damage(headerOfAnother)
		l.events.damage(g, 0)
		return x
	}
	holes := 0
	for at.Next() {
		h, ok := peek(at.Payload)
		if at.Holes > holes {
			holes = at.Holes
			begin := at.Pos() - int(durable.FrameLen(at.Payload))
			damage("the bytes from %d to %d are no frame", x.end, begin)
			l.events.damage(g, begin-x.end)
		}
		if !ok {
			damage("frame %#x is no entry", at.Seq)
			l.events.damage(g, int(durable.FrameLen(at.Payload)))
		}
		if ok && !l.addFrame(g, &x, at, h) {
			damage("there is no id left for frame %#x", at.Seq)
			l.events.damage(g, 0)
			return x
		}
		x.end = at.Pos()
	}
	l.kill.sawSegment(g, at.Seq)
	written := l.acks.written[segmentKey{logRun{g.class, g.run}, g.number}]
	switch {
	case !good && !torn:
		damage(headerDamaged)
	case at.Tail > 0 && !torn:
		damage("the bytes from %d to the end are no frame", x.end)
	case at.Seq < written: // frames that were on disk are missing
		damage("ends with frame %#x, and was on disk up to frame %#x", at.Seq, written)
	case !good && x.last != nil:
		x.damage = cmp.Or(x.damage, headerDamaged) // only the header is damaged
	}
	switch {
	case at.Seq < written:
		l.events.damage(g, 0) // more than the rest of the file had room for
	case at.Tail > 0 && !torn:
		l.events.damage(g, at.Tail)
	}
	return x
}

// isStale reports whether a frame is done, or was written again elsewhere, because this run
// has used the directory before.
func (l *loader) isStale(g *segment, seq uint64) bool {
	if !l.f.ours {
		return false
	}
	wanted := l.own.wanted[logRun{g.class, g.run}]
	return wanted == nil || !wanted.has(seq)
}

// addFrame adds one entry of a segment. It returns false if the seq of its frame is too large to
// be valid.
func (l *loader) addFrame(g *segment, x *scanned, at *durable.Scanner, h head) bool {
	if x.last == nil {
		g.off, g.lo = l.next-at.Seq, l.next
		g.setStamps(at.Payload, at.Payload)
	}
	id := g.off + at.Seq
	if id >= l.own.ids.hi {
		return false
	}
	done := &l.f.logs[g.class].done
	done.add(x.id, id) // the ids in between are in no file
	if l.acks.isDone(logRun{g.class, g.run}, at.Seq) || l.isStale(g, at.Seq) {
		done.add(id, id+1)
	} else {
		g.live++
		l.kill.saw(h, at.Payload)
		if h.gap() {
			l.f.gaps[id] = &owedGap{run: g.run, seq: at.Seq, form: slices.Clone(at.Payload)}
		}
	}
	if h.gap() {
		l.gapSeen[frameKey{g.run, at.Seq}] = true
	}
	if g.class == Events {
		l.events.see(g.run, at.Seq)
	}
	x.id, g.hi, x.last = id+1, id+1, at.Payload
	sensor, known := l.names[string(h.sensor)]
	if !known {
		sensor = string(h.sensor)
		l.names[sensor] = sensor
	}
	g.add(sensor, h.run, h.seq, durable.FrameLen(at.Payload))
	if h.seq > 0 && sensor != "" {
		l.trackers[g.class].see(origin{sensor, h.run}, h.seq, g.run)
	}
	return true
}

// countTracker follows the counts of the sensors through the files of one log, in order, to
// determine what may have been lost by damage. A run's files have entries of earlier runs if it
// has lost the directory and written again what it had in memory.
type countTracker struct {
	counts  map[origin]*trackedCount
	damaged map[uint64]bool // runs with damage in their files so far
	lost    *tally
}

// trackedCount is how far a sensor has come in a run.
type trackedCount struct {
	last   uint64 // its latest count
	open   bool   // no entry has been found since the damage
	before uint64 // its latest count before the damage
	file   uint64 // the run whose file has its latest entry
}

func newCountTracker() *countTracker {
	return &countTracker{counts: map[origin]*trackedCount{}, damaged: map[uint64]bool{}, lost: newTally()}
}

// see records an entry in a file of a run.
func (t *countTracker) see(o origin, seq, file uint64) {
	x := t.counts[o]
	if x == nil {
		x = &trackedCount{open: t.damaged[o.run] || t.damaged[file]} // its first entries may have been in the damage
		t.counts[o] = x
	}
	x.file = file
	if x.open {
		x.open = false
		if seq > x.before+1 {
			t.lost.addLoss(o, loss{lo: x.before + 1, hi: seq - 1, uncertain: true})
		}
	}
	x.last = max(x.last, seq)
}

// damage records that entries in a file of a run may be missing here.
func (t *countTracker) damage(run uint64) {
	t.damaged[run] = true
	for o, x := range t.counts {
		if (o.run == run || x.file == run) && !x.open {
			x.open, x.before = true, x.last
		}
	}
}

// loseUnseen adds losses for sensors that had entries in this log, but of which nothing can be
// read: the damage may have hit all of them. These are sensors of a damaged run, and of earlier
// runs that have no files of their own: their entries were in files of a later run.
func (t *countTracker) loseUnseen(class Class, acks ackState, segs []*segment) {
	if len(t.damaged) == 0 {
		return
	}
	own := acks.runsWithFiles(class)
	for _, g := range segs {
		own[g.run] = true
	}
	latest := slices.Max(slices.Collect(maps.Keys(t.damaged)))
	missed := map[origin]uint64{}
	for run := range acks.sensors {
		if !t.damaged[run] && (own[run] || run > latest) {
			continue
		}
		for sensor, m := range acks.sensors[run] {
			o := origin{sensor, run}
			if t.counts[o] == nil && m.in[class] && m.seq > 0 {
				missed[o] = m.seq
			}
		}
	}
	for _, o := range sortedOrigins(missed) {
		t.lost.addLoss(o, loss{lo: 1, hi: missed[o], uncertain: true})
	}
}

// losses returns what the damage may have cost.
func (t *countTracker) losses(class Class, acks ackState) *tally {
	for _, o := range sortedOrigins(t.counts) {
		x := t.counts[o]
		if !x.open {
			continue
		}
		lost := loss{lo: x.before + 1, open: true, uncertain: true}
		if m := acks.sensors[o.run][o.sensor]; x.file != o.run && m.in[class] && m.seq > 0 { // no more of it came then
			lost.hi, lost.open = m.seq, false
		}
		if lost.open || lost.hi >= lost.lo {
			t.lost.addLoss(o, lost)
		}
	}
	return t.lost
}

// eventTracker follows the frames of the events of each run through their files, in order, to
// determine how many entries without a count may have been lost by damage.
type eventTracker struct {
	acks *ackState
	runs map[uint64]*trackedEvents
}

// trackedEvents is how far the events of a run have come.
type trackedEvents struct {
	next    uint64 // the seq after the latest frame; 0 if unknown
	damaged bool   // there was damage since that frame
	size    int    // size of the damage, in bytes; 0 if unknown
	until   uint64 // the seq after the last frame that was on disk there; 0 if unknown
	lost    int64  // entries that damage may have hit so far
}

func newEventTracker(acks *ackState) *eventTracker {
	return &eventTracker{acks: acks, runs: map[uint64]*trackedEvents{}}
}

func (t *eventTracker) of(run uint64) *trackedEvents {
	if t.runs[run] == nil {
		t.runs[run] = &trackedEvents{}
	}
	return t.runs[run]
}

// damage records that frames of a segment may be lost, size bytes in total; 0 if unknown. It
// ignores segments other than those of events.
func (t *eventTracker) damage(g *segment, size int) {
	if g.class != Events {
		return
	}
	x := t.of(g.run)
	written := func(number uint32) (end uint64) {
		if seq, known := t.acks.written[segmentKey{logRun{Events, g.run}, number}]; known {
			end = seq + 1
		}
		return end
	}
	if x.next == 0 && g.number == 1 {
		x.next = firstLive
	} else if x.next == 0 {
		x.next = written(g.number - 1)
	}
	if x.size += size; x.damaged && (size == 0 || x.size == size) {
		x.size = 0 // the total is unknown
	}
	x.damaged, x.until = true, max(x.until, written(g.number))
}

// see records a frame.
func (t *eventTracker) see(run, seq uint64) {
	x := t.of(run)
	if x.damaged {
		before := seq
		if x.size == 0 && x.until > 0 { // whole frames, of which the last ended there
			before = min(seq, x.until)
		}
		if seq < x.next { // it was written again after the directory was lost, and is of an earlier run
			x.next = 0
		}
		x.lost += t.owed(run, x, before)
	}
	x.next, x.damaged, x.size, x.until = seq+1, false, 0, 0
}

// leastEntry is smaller than the form of any entry.
const leastEntry = 16

// owed returns how many of the frames before a seq and after the latest one read may be owed:
// no more than fit into the damage, without those whose acknowledgement or gap is in the ack
// file.
func (t *eventTracker) owed(run uint64, x *trackedEvents, before uint64) (n int64) {
	most := int64(segmentSize / (durable.FrameSize + leastEntry))
	if x.size > 0 {
		most = 1 + int64(x.size/(durable.FrameSize+leastEntry))
	}
	if x.next == 0 {
		return 1 // at least one: where the damage begins is unknown
	}
	done := cmp.Or(t.acks.done[logRun{Events, run}], &ids{})
	for seq := done.free(x.next); seq < before && n < most; seq = done.free(seq + 1) {
		if t.acks.gaps[frameKey{run, seq}] == nil {
			n++
		}
	}
	return n
}

// addTo adds the losses. They are uncertain, because the entries may have arrived.
func (t *eventTracker) addTo(to *tally) {
	for run, x := range t.runs {
		if end := max(x.until, x.next+uint64(min(x.size, 1))); x.damaged && end > x.next {
			x.lost += t.owed(run, x, end)
		}
		if x.lost > 0 {
			to.addUncounted(run, x.lost, true)
		}
	}
}

// safeUntil returns the count up to which an origin is known to be undamaged; 0 if nothing is
// known about it.
func (t *countTracker) safeUntil(o origin) uint64 {
	switch x := t.counts[o]; {
	case x == nil:
		return 0
	case x.open:
		return x.before
	default:
		return x.last
	}
}

// crashLosses determines what the crashed runs may have lost: for each of their sensors, all
// counts from a certain one on.
func crashLosses(runs map[uint64]bool, acks ackState, trackers [classes]*countTracker) *tally {
	where := map[origin]sensorMark{}
	for run := range runs {
		for sensor, m := range acks.sensors[run] {
			where[origin{sensor, run}] = m
		}
	}
	for i, t := range trackers {
		for o := range t.counts {
			if runs[o.run] {
				m := where[o]
				m.in[i] = true
				where[o] = m
			}
		}
	}
	out := newTally()
	for _, o := range sortedOrigins(where) {
		out.addLoss(o, loss{lo: safeUntil(o, where[o], trackers) + 1, open: true, uncertain: true})
	}
	return out
}

// safeUntil returns the count up to which no entry of a sensor can be lost. A count in the
// files of one log shows that the lower counts in that log are safe, but says nothing about
// other logs.
func safeUntil(o origin, m sensorMark, trackers [classes]*countTracker) uint64 {
	least, some := uint64(0), false
	for i, has := range m.in {
		if !has {
			continue
		}
		seq := trackers[i].safeUntil(o)
		if !some || seq < least {
			least, some = seq, true
		}
	}
	return max(least, m.seq)
}
