package spool

import (
	"encoding/binary"
	"fmt"
	"time"

	"fieldpost/daemon/durable"
)

// The ack file records which entries need not be sent again, how far each sensor came in the
// current run, and what must not be lost together with a segment: the gaps that are owed, and
// which segments exist. It consists of frames like a segment; their seq counts them, and each
// payload is a record of one of the kinds below. The file is only appended to, and rewritten
// when it has grown. Acks are not synced: losing the end of the file costs repeats, never
// entries.
//
// A record starts with its kind and a class, one byte each, and a run; class and run are 0 if
// the kind has none. All numbers are uvarints. Then follow:
//
//	ackDone      pairs: seqs of that run are done. A pair is a span: how far it begins after the end of the
//	             previous one (the first: after 0), and how many seqs it has
//	ackSafe      seq, sensor string: everything of the sensor up to its own count seq is safe
//	ackSensor    sensor string: the sensor is configured, and may have had entries in no log
//	ackWritten   number, seq: the segment of that run and number is on disk up to its frame seq; the latest
//	             record counts, because a segment can be rewritten with less
//	ackRemoved   number: that segment is removed, nothing needs it
//	ackJoined    number, seq, numbers: if that segment ends with its frame seq, it also contains what is owed
//	             of the others, and nothing needs them
//	ackSource    the last run, spool's id and thing's name as strings: who took the entries of the runs from
//	             that one to the last
//	ackTogether  records as strings: all of them are true, or none
//	ackGap       seq, the gap's form: that frame is this gap, and the broker does not have it
//	ackGiven     seq, sensor string: of that run's frames of the sensor, Next has returned those before seq, in
//	             whichever run; valid if the latest run has stopped in order. Without a sensor, as for events, it
//	             is about the whole log
//
// A rewritten file has the ackDone records last, as many as there is room for, so that what
// is appended later is still read.
const (
	ackDone     = 'd'
	ackSafe     = 'm'
	ackSensor   = 'c'
	ackWritten  = 'f'
	ackRemoved  = 'r'
	ackJoined   = 'x'
	ackSource   = 'w'
	ackTogether = 't'
	ackGap      = 'g'
	ackGiven    = 'h'
)

const (
	ackName       = "acks"
	minAckRewrite = segmentSize    // it is not rewritten below this size, or a 16th of MaxBytes
	maxAckFile    = 64 << 20       // the most that is read of it
	maxAckDone    = maxAckFile / 2 // the most that ackDone records may fill
	maxDoneSpans  = 4 << 10        // largest record of ackDone: damage to it costs that many repeats
)

// segmentKey names a segment.
type segmentKey struct {
	logRun
	number uint32
}

// sensorMark records how far a sensor had come.
type sensorMark struct {
	in  [classes]bool // in which logs it has had entries
	seq uint64        // everything up to here is acknowledged, on disk, or reported in a gap
}

// joinedSegments records that a segment also replaces others, if it ends with a given frame.
type joinedSegments struct {
	number uint32
	seq    uint64
	others []uint32
}

// givenKey identifies the entries of one sensor and run in one log, or of all sensors.
type givenKey struct {
	logRun
	sensor string
	all    bool
}

// ackState is the decoded content of the ack file.
type ackState struct {
	written map[segmentKey]uint64 // the last frame of each that was on disk
	removed map[segmentKey]bool
	joined  map[logRun][]joinedSegments
	done    map[logRun]*ids
	sensors map[uint64]map[string]sensorMark // by run and sensor
	gaps    map[frameKey][]byte              // the forms of gaps, which share the file's bytes
	given   map[givenKey]uint64              // after the last seq that Next has returned
	sources runSources
}

// readAcks decodes the ack file. It skips what it cannot decode.
func readAcks(data []byte) ackState {
	n := ackState{
		written: map[segmentKey]uint64{}, removed: map[segmentKey]bool{}, joined: map[logRun][]joinedSegments{}, done: map[logRun]*ids{},
		sensors: map[uint64]map[string]sensorMark{}, gaps: map[frameKey][]byte{}, given: map[givenKey]uint64{},
	}
	s := durable.Scan(data, 0)
	for s.Next() {
		n.readRecord(s.Payload)
	}
	return n
}

func (n *ackState) readRecord(record []byte) {
	d := durable.Decoder{B: record}
	kind, class, run := d.Byte(), Class(d.Byte()), d.Uvarint()
	if d.Bad || class >= classes {
		return
	}
	k := logRun{class, run}
	switch kind {
	case ackDone:
		n.readDone(&d, k)
	case ackWritten, ackRemoved, ackJoined:
		n.readSegment(&d, kind, k)
	case ackSafe:
		seq, sensor := d.Uvarint(), d.String()
		if !d.Bad {
			var in [classes]bool
			in[class] = true
			n.addSensor(run, sensor, in, seq)
		}
	case ackSensor:
		if sensor := d.String(); !d.Bad {
			n.addSensor(run, sensor, [classes]bool{}, 0)
		}
	case ackTogether:
		for len(d.B) > 0 && !d.Bad {
			if inner := d.Bytes(); len(inner) > 0 && inner[0] != ackTogether {
				n.readRecord(inner)
			}
		}
	case ackGap:
		if seq := d.Uvarint(); !d.Bad {
			n.gaps[frameKey{run, seq}] = d.B
		}
	case ackSource:
		x := runSource{run, d.Uvarint(), Source{Spool: d.String(), Thing: d.String()}}
		if !d.Bad {
			n.sources = append(n.sources, x)
		}
	case ackGiven:
		seq, of := d.Uvarint(), givenKey{k, "", true}
		if len(d.B) > 0 {
			of.sensor, of.all = d.String(), false
		}
		if !d.Bad {
			n.given[of] = seq
		}
	}
}

// readDone decodes which seqs of a run are done.
func (n *ackState) readDone(d *durable.Decoder, k logRun) {
	if n.done[k] == nil {
		n.done[k] = &ids{}
	}
	for lo, hi := uint64(0), uint64(0); len(d.B) > 0; {
		lo = hi + d.Uvarint()
		if hi = lo + d.Uvarint(); d.Bad {
			return
		}
		n.done[k].add(lo, hi)
	}
}

// readSegment decodes a record about segments: how far one is on disk, that it is removed, or
// that it replaces others.
func (n *ackState) readSegment(d *durable.Decoder, kind byte, k logRun) {
	number := uint32(d.Uvarint())
	file := segmentKey{k, number}
	switch kind {
	case ackWritten:
		if seq := d.Uvarint(); !d.Bad {
			n.written[file] = seq
		}
	case ackRemoved:
		if !d.Bad {
			n.removed[file] = true
		}
	case ackJoined:
		j := joinedSegments{number: number, seq: d.Uvarint()}
		for len(d.B) > 0 && !d.Bad {
			j.others = append(j.others, uint32(d.Uvarint()))
		}
		if !d.Bad {
			n.joined[k] = append(n.joined[k], j)
		}
	}
}

// addSensor adds the logs in which a sensor has had entries, and the count up to which it is
// safe.
func (n *ackState) addSensor(run uint64, sensor string, in [classes]bool, seq uint64) {
	if n.sensors[run] == nil {
		n.sensors[run] = map[string]sensorMark{}
	}
	m := n.sensors[run][sensor]
	for i, has := range in {
		m.in[i] = m.in[i] || has
	}
	m.seq = max(m.seq, seq)
	n.sensors[run][sensor] = m
}

// isRemoved reports whether nothing needs a segment any more.
func (n *ackState) isRemoved(g *segment) bool {
	return n.removed[segmentKey{logRun{g.class, g.run}, g.number}]
}

// runsWithFiles returns the runs of which segments of a class are known, removed ones too.
func (n *ackState) runsWithFiles(class Class) map[uint64]bool {
	runs := map[uint64]bool{}
	for k := range n.written {
		runs[k.run] = runs[k.run] || k.class == class
	}
	for k := range n.removed {
		runs[k.run] = runs[k.run] || k.class == class
	}
	return runs
}

// isDone reports whether a frame is done.
func (n *ackState) isDone(k logRun, seq uint64) bool {
	done := n.done[k]
	return done != nil && done.has(seq)
}

// ackFile writes the ack file. Only the writer's goroutine uses it.
type ackFile struct {
	disk  disk
	least int64        // below this size it is not rewritten
	file  durable.File // nil before the first rewrite and after an error
	size  int64
	floor int64 // the size after the last rewrite
	seq   uint64
}

func newAckFile(d disk, maxBytes int64) ackFile {
	return ackFile{disk: d, least: min(minAckRewrite, maxBytes/16)}
}

// isOpen reports whether records can be appended. Otherwise the file must be rewritten.
func (w *ackFile) isOpen() bool { return w.file != nil }

// hasGrown reports whether the file should be rewritten.
func (w *ackFile) hasGrown() bool { return w.size > max(w.least, min(2*w.floor, maxAckFile/4*3)) }

// isThere returns nil if the name of the file still leads to the open file, or if no file is
// open.
func (w *ackFile) isThere() error {
	if w.file == nil {
		return nil
	}
	return w.file.There()
}

// append appends the records that fill encodes. After an error only rewrite works. The
// next run must not find any of these records, because what they report as dropped may
// still be there.
func (w *ackFile) append(fill func(*ackEncoder), sync bool) error {
	f := ackEncoder{seq: w.seq}
	fill(&f)
	f.flush()
	if len(f.b) == 0 {
		return nil
	}
	n, err := w.file.Write(f.b)
	w.size += int64(n)
	if err == nil && sync {
		err = w.file.Datasync()
		if err == nil {
			err = w.file.There()
		}
	}
	if err != nil {
		w.close()
		w.size -= int64(n)
		_ = w.disk.Truncate(ackName, w.size) // the first error is the one to report
		return fmt.Errorf("write %q: %w", ackName, err)
	}
	w.seq = f.seq
	return nil
}

// rewrite durably replaces the file with the records that fill encodes.
func (w *ackFile) rewrite(fill func(*ackEncoder)) error {
	w.close()
	var f ackEncoder
	fill(&f)
	f.flush()
	if err := durable.Replace(w.disk, ackName, f.b); err != nil {
		return err
	}
	file, err := w.disk.Append(ackName)
	if err != nil {
		return fmt.Errorf("open %q: %w", ackName, err)
	}
	w.file, w.size, w.floor, w.seq = file, int64(len(f.b)), int64(len(f.b)), f.seq
	return nil
}

// close closes the file, so that the next write rewrites it.
func (w *ackFile) close() {
	if w.file != nil {
		_ = w.file.Close() // nothing in it is owed
		w.file = nil
	}
}

// ackEncoder encodes records of the ack file as frames.
type ackEncoder struct {
	b      []byte
	seq    uint64 // of the last frame
	inner  []byte // records for one frame
	within bool
	spans  doneSpans // not added yet
}

// doneSpans is a record of ackDone that is being built.
type doneSpans struct {
	key  logRun
	b    []byte // empty if there is none
	end  uint64 // end of the latest span in b
	last span   // the span after that, not in b yet
}

func (p *doneSpans) push() {
	p.b = binary.AppendUvarint(p.b, p.last.lo-p.end)
	p.b = binary.AppendUvarint(p.b, p.last.hi-p.last.lo)
	p.end = p.last.hi
}

// together puts everything that fill adds into one frame, if it fits.
func (f *ackEncoder) together(fill func()) {
	f.flush()
	f.inner, f.within = []byte{ackTogether, 0, 0}, true
	fill()
	f.flush()
	f.within = false
	if len(f.inner) > 3 {
		f.appendFrame(f.inner)
	}
}

// add adds a record.
func (f *ackEncoder) add(record []byte) {
	f.flush()
	f.appendFrame(record)
}

func (f *ackEncoder) appendFrame(record []byte) {
	if f.within && len(f.inner)+len(record)+binary.MaxVarintLen64 <= durable.MaxPayload {
		f.inner = durable.AppendString(f.inner, string(record))
		return
	}
	f.seq++
	f.b = durable.AppendFrame(f.b, f.seq, record)
}

// flush adds the spans that are not added yet.
func (f *ackEncoder) flush() {
	if p := &f.spans; len(p.b) > 0 {
		p.push()
		f.appendFrame(p.b)
		p.b = p.b[:0]
	}
}

// ackRecord begins a record with its kind and its subject.
func ackRecord(kind byte, k logRun, numbers ...uint64) []byte {
	b := append(make([]byte, 0, 40), kind, byte(k.class))
	b = binary.AppendUvarint(b, k.run)
	for _, n := range numbers {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

// addDone records that the seqs of x are done. Spans that come in ascending order go into one
// record.
func (f *ackEncoder) addDone(k logRun, x span) {
	p := &f.spans
	switch here := len(p.b) > 0 && p.key == k && p.last.hi <= x.lo; {
	case here && p.last.hi == x.lo:
		p.last.hi = x.hi
		return
	case here && len(p.b) < maxDoneSpans:
		p.push()
	default:
		f.flush()
		p.key, p.end = k, 0
		p.b = binary.AppendUvarint(append(p.b, ackDone, byte(k.class)), k.run)
	}
	p.last = x
}

// addSafe records how far a sensor is safe.
func (f *ackEncoder) addSafe(k logRun, sensor string, seq uint64) {
	f.add(durable.AppendString(ackRecord(ackSafe, k, seq), sensor))
}

// addSensor records that a sensor exists, if nothing else about it must be recorded.
func (f *ackEncoder) addSensor(run uint64, sensor string) {
	f.add(durable.AppendString(ackRecord(ackSensor, logRun{0, run}), sensor))
}

// addWrittenLocked records how far a segment is on disk, if it is at all.
func (f *ackEncoder) addWrittenLocked(l *log, g *segment) {
	if until := l.writtenUntil(g); until > g.lo {
		f.addWrittenUntil(g, until-1-g.off)
	}
}

// addWrittenUntil records that a segment is on disk up to a frame, whatever earlier records
// say.
func (f *ackEncoder) addWrittenUntil(g *segment, seq uint64) {
	f.add(ackRecord(ackWritten, logRun{g.class, g.run}, uint64(g.number), seq))
}

// addJoined records that the first segment of a group replaces the others, if it ends with
// that frame.
func (f *ackEncoder) addJoined(group []*segment, seq uint64) {
	b := ackRecord(ackJoined, logRun{group[0].class, group[0].run}, uint64(group[0].number), seq)
	for _, g := range group[1:] {
		b = binary.AppendUvarint(b, uint64(g.number))
	}
	f.add(b)
}

// addRemoved records that a segment's file is gone.
func (f *ackEncoder) addRemoved(g *segment) {
	f.add(ackRecord(ackRemoved, logRun{g.class, g.run}, uint64(g.number)))
}

// addGap records a gap's form.
func (f *ackEncoder) addGap(k frameKey, form []byte) {
	f.add(append(ackRecord(ackGap, logRun{Events, k.run}, k.seq), form...))
}

// addSource records who took the entries of some runs.
func (f *ackEncoder) addSource(x runSource) {
	b := ackRecord(ackSource, logRun{0, x.lo}, x.hi)
	f.add(durable.AppendString(durable.AppendString(b, x.Spool), x.Thing))
}

// addGiven records how far Next has returned a run's entries of a flow.
func (f *ackEncoder) addGiven(k logRun, sensor string, seq uint64) {
	b := ackRecord(ackGiven, k, seq)
	if k.class != Events {
		b = durable.AppendString(b, sensor)
	}
	f.add(b)
}

// The methods below encode the content of the ack file from the store. They are called with
// the store's lock held.

// addNewLocked adds the gaps that are not recorded yet, and in the same frame everything that
// they cover as done. So after a crash nothing is sent that a gap has reported as missing.
func (f *ackEncoder) addNewLocked(st *store) {
	f.together(func() {
		for _, id := range st.gaps.unrecorded {
			if x := st.gaps.owed[id]; x != nil {
				f.addGap(st.gaps.key(x), x.form)
				x.recorded = true
			}
		}
		st.gaps.unrecorded, st.gaps.news = nil, false
		f.addGivenUpLocked(st)
	})
}

// addGivenUpLocked adds the dropped entries.
func (f *ackEncoder) addGivenUpLocked(st *store) {
	for _, x := range st.losses.entries {
		f.addDone(logRun{x.class, x.seg.run}, span{x.id - x.seg.off, x.id - x.seg.off + 1})
	}
	for _, l := range st.logs {
		for _, x := range l.maybeWritten.spans {
			f.addDone(logRun{l.class, st.run}, x)
		}
	}
	for _, g := range st.losses.segments {
		f.addRemoved(g)
	}
	if d := st.losses.drop; d != nil && d.part {
		for _, id := range d.ids {
			f.addDone(logRun{d.seg.class, d.seg.run}, span{id - d.seg.off, id - d.seg.off + 1})
		}
	}
}

// addAcksLocked adds the entries acknowledged since the last time.
func (f *ackEncoder) addAcksLocked(st *store) {
	for _, l := range st.logs {
		for _, g := range l.segs {
			for _, x := range l.unrecorded.within(g.lo, g.hi) {
				f.addDone(logRun{l.class, g.run}, span{x.lo - g.off, x.hi - g.off})
			}
		}
		l.unrecorded = ids{}
	}
	for _, k := range st.gaps.settled {
		f.addDone(logRun{Events, k.run}, span{k.seq, k.seq + 1})
	}
	st.gaps.settled = nil
	st.due.acks = time.Time{}
}

// addAllLocked adds everything that the next run must know.
func (f *ackEncoder) addAllLocked(st *store) {
	for _, id := range st.gaps.sorted() {
		x := st.gaps.owed[id]
		f.addGap(st.gaps.key(x), x.form)
		x.recorded = true
	}
	st.gaps.unrecorded, st.gaps.settled, st.gaps.news = nil, nil, false
	f.addGivenUpLocked(st)
	for _, x := range st.sources.only(st.mentionedRunsLocked()) {
		f.addSource(x)
	}
	for _, g := range st.garbage {
		f.addRemoved(g)
	}
	for _, l := range st.logs {
		for _, g := range l.segs {
			f.addWrittenLocked(l, g)
		}
	}
	f.addGivenLocked(st)
	f.addEarlierSensorsLocked(st)
	f.addSensorsLocked(st)
	f.addDoneLocked(st, maxAckDone)
}

// addDoneLocked adds which entries of the current segments are done, until the file has room
// bytes. Entries that do not fit are sent again after a restart.
func (f *ackEncoder) addDoneLocked(st *store, room int) {
	for _, l := range st.logs {
		keep := st.heldLocked(l.class)
		for _, g := range l.segs {
			if len(f.b) > room {
				break
			}
			for _, x := range l.done.without(g.lo, g.hi, &keep) {
				f.addDone(logRun{l.class, g.run}, span{x.lo - g.off, x.hi - g.off})
			}
		}
		l.unrecorded = ids{}
	}
	st.due.acks = time.Time{}
}

// addGivenLocked adds, for each flow and run that still has entries, how far they were sent.
// Next returns them in order, so one number is enough. When these numbers are written for the
// last time, Next returns nothing any more.
func (f *ackEncoder) addGivenLocked(st *store) {
	for _, l := range st.logs {
		far := map[origin]uint64{}
		for _, g := range l.segs {
			l.flowsIn(g, func(x *flow) {
				o, seq := origin{x.sensor, g.run}, uint64(0)
				if until := min(g.hi, x.givenUntil(g.lo)); until > g.lo {
					seq = until - g.off
				}
				far[o] = max(far[o], seq)
			})
		}
		for _, o := range sortedOrigins(far) {
			f.addGiven(logRun{l.class, o.run}, o.sensor, far[o])
		}
	}
}

// addEarlierSensorsLocked adds the sensors of earlier runs that still have entries, so
// that damage is reported even if it destroys all entries of a sensor.
func (f *ackEncoder) addEarlierSensorsLocked(st *store) {
	for _, l := range st.logs {
		far := map[origin]uint64{}
		for _, g := range l.segs {
			for _, x := range g.sums {
				if x.run != st.run && x.hi > 0 {
					o := origin{x.sensor, x.run}
					far[o] = max(far[o], x.hi)
				}
			}
		}
		for _, o := range sortedOrigins(far) {
			f.addSafe(logRun{l.class, o.run}, o.sensor, far[o])
		}
	}
}

// addSensorsLocked adds up to which count each sensor is safe: acknowledged, durable, or
// covered by a durable gap. It also adds how far the files are durable, to distinguish
// damage at the end of a file from an end that was never written.
func (f *ackEncoder) addSensorsLocked(st *store) {
	st.due.sensors, st.sensors.recorded = time.Time{}, st.sensors.count
	unsafe := map[string]uint64{}
	for _, l := range st.logs {
		if n := len(l.segs); n > 0 && l.segs[n-1].run == st.run {
			f.addWrittenLocked(l, l.segs[n-1])
		}
		l.eachUnsynced(func(e *memEntry) {
			if e.done || e.run != st.run || e.seq == 0 {
				return
			}
			if lo, known := unsafe[e.sensor]; !known || e.seq < lo {
				unsafe[e.sensor] = e.seq
			}
		})
	}
	for sensor, x := range st.sensors.seen {
		safe := x.last
		if lo, known := unsafe[sensor]; known {
			safe = lo - 1
		}
		for i, has := range x.in {
			if has {
				f.addSafe(logRun{Class(i), st.run}, sensor, safe)
			}
		}
		if x.in == [classes]bool{} {
			f.addSensor(st.run, sensor)
		}
	}
}

// recordGaps durably records the gaps that are not recorded yet.
func (w *writer) recordGaps() error {
	w.st.mu.Lock()
	news := w.st.gaps.news
	w.st.mu.Unlock()
	if !news {
		return nil
	}
	return w.appendAcks(func(*ackEncoder) {}, true)
}

// recordAcks records what was acknowledged since the last time.
func (w *writer) recordAcks() error {
	if w.acks.hasGrown() {
		return w.rewriteAcks()
	}
	return w.appendAcks(func(f *ackEncoder) { f.addAcksLocked(w.st) }, false)
}

// recordSensors durably records which sensors have had entries in which logs, if that
// has changed. It runs before the first of these entries is written: an entry on disk
// must not suggest that the sensor had none in another log.
func (w *writer) recordSensors() error {
	if w.st.sensorCount() == w.dir.sensorsRecorded {
		return nil
	}
	if err := w.appendAcks(func(f *ackEncoder) { f.addSensorsLocked(w.st) }, true); err != nil || !w.dir.recorded {
		return err
	}
	return w.dir.recordRun()
}

// appendAcks appends the gaps that are not recorded yet and what fillLocked adds. If the
// file is not open, it rewrites all of it.
func (w *writer) appendAcks(fillLocked func(*ackEncoder), sync bool) error {
	if !w.acks.isOpen() {
		return w.rewriteAcks()
	}
	err := w.acks.append(func(f *ackEncoder) {
		w.st.mu.Lock()
		defer w.st.mu.Unlock()
		f.addNewLocked(w.st)
		fillLocked(f)
	}, sync)
	w.updateAckBytes()
	return err
}

// rewriteAcks durably rewrites the ack file with everything that the next run must know.
func (w *writer) rewriteAcks() error {
	err := w.acks.rewrite(func(f *ackEncoder) {
		w.st.mu.Lock()
		defer w.st.mu.Unlock()
		f.addAllLocked(w.st)
	})
	w.updateAckBytes()
	return err
}

func (w *writer) updateAckBytes() {
	w.st.mu.Lock()
	defer w.st.mu.Unlock()
	w.st.ackBytes = w.acks.size
}

func (st *store) sensorCount() int {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.sensors.count
}
