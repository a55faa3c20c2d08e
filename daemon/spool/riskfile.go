package spool

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/durable"
	"fieldpost/daemon/regular"
)

// The risk file says what a kill of the process would cost at this moment: the counts of this
// run that neither the broker nor the disk has. It is in the runtime directory, so it
// survives a kill, but not a power cut, and costs no disk write. After a kill, the next run
// reports exactly those of these counts that it finds in no file. Without a valid risk file
// it reports everything after the last count that is known to be safe.
//
// Each run has its own file, which is overwritten in place, without a sync. It contains a
// checksum and a length, 4 bytes each, little-endian, and then, with numbers as uvarints:
//
//	run, spool's id, boot id, place of the lock file: whose entries these are
//	how many of the numbers that follow are segments, then for each the class, the number,
//	    and the seq of the last frame that is on disk: the active segments
//	for each span of counts: sensor string, first, how many more, and 1 if they may have been sent
//
// It never reports less than is lost. [Spool.Append] returns, and [Spool.Next] returns what
// was appended, only after the file has it. If the file cannot be written, it is removed. A
// file that was cut short by the kill is ignored.
//
// The note is updated in small steps, so that an Append costs the same however many entries
// are at risk: new entries are added, and the note is rewritten only when an eighth of its
// entries are on disk or acknowledged, and before the writer rests.
const (
	riskPrefix  = "spool-risk-"
	maxRiskFile = 64 << 10
	maxRisks    = 1 << 10 // if there are more spans, those of one sensor are joined
)

// tooMuch is the content of a risk file that cannot hold everything at risk. It is not a
// valid note.
const tooMuch = "\x00\x00\x00\x00\x00\x00\x00\x00"

func riskName(run uint64) string { return fmt.Sprint(riskPrefix, run) }

// riskNote is the content of a risk file.
type riskNote struct {
	run                uint64
	spool, boot, place string
	segments           map[segmentKey]uint64 // the last frame of each that is on disk
	risks              []risk
}

// risk is counts of one sensor that a kill would cost.
type risk struct {
	sensor string
	lo, hi uint64 // both included
	sent   bool   // they may have been sent
	gap    bool   // of a gap, which says itself whether they were sent; not in the file
}

// appendTo encodes a note after b, which must be empty.
func (n *riskNote) appendTo(b []byte) []byte {
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	b = binary.AppendUvarint(b, n.run)
	for _, s := range []string{n.spool, n.boot, n.place} {
		b = durable.AppendString(b, s)
	}
	b = binary.AppendUvarint(b, uint64(len(n.segments)))
	for c := range classes { // at most one of each
		for k, seq := range n.segments {
			if k.class == c {
				b = binary.AppendUvarint(append(b, byte(c)), uint64(k.number))
				b = binary.AppendUvarint(b, seq)
			}
		}
	}
	for _, x := range n.risks {
		b = durable.AppendString(b, x.sensor)
		b = binary.AppendUvarint(b, x.lo)
		b = binary.AppendUvarint(b, x.hi-x.lo)
		if x.sent {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
	}
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)-8))
	binary.LittleEndian.PutUint32(b, durable.Checksum(b[4:]))
	return b
}

// decodeRiskNote decodes the content of a risk file. Bytes after the note are left from an
// older, longer one.
func decodeRiskNote(b []byte) (*riskNote, bool) {
	if len(b) < 8 {
		return nil, false
	}
	size := uint64(binary.LittleEndian.Uint32(b[4:]))
	if size > uint64(len(b)-8) || binary.LittleEndian.Uint32(b) != durable.Checksum(b[4:8+size]) {
		return nil, false
	}
	d := durable.Decoder{B: b[8 : 8+size]}
	n := &riskNote{run: d.Uvarint(), spool: d.String(), boot: d.String(), place: d.String(), segments: map[segmentKey]uint64{}}
	for range min(d.Uvarint(), uint64(classes)) {
		k := segmentKey{logRun{Class(d.Byte()), n.run}, uint32(d.Uvarint())}
		n.segments[k] = d.Uvarint()
	}
	for len(d.B) > 0 && !d.Bad {
		x := risk{sensor: d.String(), lo: d.Uvarint()}
		x.hi = x.lo + d.Uvarint()
		x.sent = d.Byte() != 0
		n.risks = append(n.risks, x)
	}
	return n, !d.Bad
}

// riskFile writes the risk file.
type riskFile struct {
	dir   string // the runtime directory; "" if there is none
	clock clock.Clock
	log   *slog.Logger
	st    *store

	began, cleared bool         // used only by the writer's goroutine
	earlier        earlierRisks // likewise

	book riskBook // the lock of the store guards it

	mu   sync.Mutex // held while an entry is appended and the file is written; locked before the store's
	file riskStore  // nil while there is no file
	note riskNote
	last []byte         // what the file contains
	next []byte         // memory for the next content
	at   map[string]int // by sensor, the index of the latest of note.risks

	most    int             // spans that may be in the note; see joinRisks
	until   [classes]uint64 // entries with lower ids are in the note if they are at risk
	entries int             // how many were added
	open    bool            // the loss of one of them has no known end
}

// riskStore is the part of [os.File] that is used.
type riskStore interface {
	io.WriterAt
	io.Closer
	Truncate(size int64) error
}

func newRiskFile(o Options, st *store) *riskFile {
	return &riskFile{
		dir: o.RuntimeDir, clock: o.Clock, log: o.Log, st: st, earlier: earlierRisks{dir: o.RuntimeDir, found: map[uint64]earlierRisk{}},
		note: riskNote{segments: map[segmentKey]uint64{}}, at: map[string]int{}, most: maxRisks,
	}
}

// earlierRisks are the risk files of earlier runs.
type earlierRisks struct {
	dir   string
	found map[uint64]earlierRisk // by run
}

// earlierRisk is the content of the risk file of an earlier run.
type earlierRisk struct {
	note     *riskNote // nil if it cannot be used
	unusable string    // why
}

// recall reads the risk files of earlier runs.
func (r *riskFile) recall() {
	for _, name := range r.names() {
		run, err := strconv.ParseUint(strings.TrimPrefix(name, riskPrefix), 10, 64)
		if err == nil {
			r.earlier.found[run] = r.readEarlier(run, filepath.Join(r.dir, name))
		}
	}
}

func (r *riskFile) readEarlier(run uint64, path string) earlierRisk {
	b, err := regular.ReadUnlinked(path, maxRiskFile)
	if err != nil {
		return earlierRisk{unusable: err.Error()}
	}
	boot := r.clock.Now().Boot
	switch n, ok := decodeRiskNote(b); {
	case len(b) >= len(tooMuch) && string(b[:len(tooMuch)]) == tooMuch:
		return earlierRisk{unusable: riskTooMuch}
	case !ok || n.run != run:
		return earlierRisk{unusable: riskDamaged}
	case boot == "":
		return earlierRisk{unusable: riskNoBoot}
	case n.boot != boot:
		return earlierRisk{unusable: riskOtherBoot}
	default:
		return earlierRisk{note: n}
	}
}

// markSent records that what was at risk may have been sent meanwhile, by a run without a disk.
func (x earlierRisks) markSent() {
	for _, e := range x.found {
		if e.note != nil {
			for k := range e.note.risks {
				e.note.risks[k].sent = true
			}
		}
	}
}

// of returns the risk file of a run. who is the run's source, and place that of its
// directory's lock file.
func (x earlierRisks) of(run uint64, who Source, place string) earlierRisk {
	e, some := x.found[run]
	switch n := e.note; {
	case x.dir == "":
		return earlierRisk{unusable: riskNoDir}
	case !some:
		return earlierRisk{unusable: riskNone}
	case n != nil && (n.spool != who.Spool || n.place != place):
		return earlierRisk{unusable: riskOtherSpool}
	}
	return e
}

// Why a risk file cannot be used.
const (
	riskNoDir      = "there is no runtime directory for a risk file"
	riskNone       = "it left no risk file; a restart of the machine removes it"
	riskDamaged    = "its risk file is damaged or was cut short"
	riskTooMuch    = "more was at risk than its risk file can hold"
	riskOtherBoot  = "its risk file is of another boot"
	riskOtherSpool = "its risk file is of another spool"
	riskNoBoot     = "the id of this boot is not known"
	riskNotLast    = "a later run has ended too, and only the risk file of the latest counts"
	riskUnknownRun = "the run file is damaged"
)

func (r *riskFile) names() (out []string) {
	if r.dir == "" {
		return nil
	}
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		r.log.Warn("cannot list the risk files of earlier runs", "err", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), riskPrefix) {
			out = append(out, e.Name())
		}
	}
	return out
}

// begin creates the file of this run. place is that of the lock file of the directory.
func (r *riskFile) begin(place string) {
	if r.dir == "" || r.began {
		return
	}
	r.began = true
	boot := r.clock.Now().Boot
	if boot == "" {
		return
	}
	path := filepath.Join(r.dir, riskName(r.st.run))
	_ = os.Remove(path) // no other run of this number has a file there
	f, err := regular.OpenUnlinked(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		r.log.Warn("cannot write the risk file: after a kill, more will be reported as lost than is", "err", err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.file = quickFile(f)
	r.st.mu.Lock()
	r.note.run, r.note.spool, r.note.boot, r.note.place = r.st.run, r.st.source.Spool, boot, place
	r.book.noting = true
	for _, l := range r.st.logs {
		l.mustRewrite = true
	}
	r.st.mu.Unlock()
	r.saveLocked()
}

// abandon removes the file, because the run gets another number before it has taken any
// entry.
func (r *riskFile) abandon() {
	r.remove()
	r.began, r.last = false, nil
}

// clear removes the files of other runs, whose losses must be recorded by then.
func (r *riskFile) clear() {
	if r.cleared {
		return
	}
	r.cleared = true
	for _, name := range r.names() {
		if name != riskName(r.st.run) {
			_ = os.Remove(filepath.Join(r.dir, name)) // its run is over, and no later one has its number
		}
	}
}

// update creates the file if the disk has a record of this run, and brings it up to date.
func (r *riskFile) update(recorded bool, place func() string) {
	if recorded {
		if !r.began { // getting the place costs a system call
			r.begin(place())
		}
		r.clear()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.saveAgainLocked()
}

// save brings the file up to date.
func (r *riskFile) save() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.saveLocked()
}

// saveAgainLocked brings the file up to date and removes everything that is no longer at
// risk.
func (r *riskFile) saveAgainLocked() {
	r.st.mu.Lock()
	for _, l := range r.st.logs {
		l.mustRewrite = l.mustRewrite || l.settled > 0
	}
	r.st.mu.Unlock()
	r.saveLocked()
}

// given returns once the file says that an item which is returned by Next may have been sent.
func (r *riskFile) given(g givenRisk) {
	switch g {
	case givenNoted:
		r.mu.Lock() // waits until a running Append has written it
		defer r.mu.Unlock()
	case givenUnnoted:
		r.save()
	}
}

func (r *riskFile) saveLocked() {
	if r.file == nil {
		return
	}
	known := r.collectLocked()
	r.next = r.note.appendTo(r.next[:0])
	if !known || len(r.next) > maxRiskFile {
		r.next = append(r.next[:0], tooMuch...)
	}
	if bytes.Equal(r.next, r.last) {
		return
	}
	if _, err := r.file.WriteAt(r.next, 0); err != nil {
		r.log.Warn("cannot write the risk file: after a kill, more will be reported as lost than is", "err", err)
		r.removeLocked()
		return
	}
	r.last, r.next = r.next, r.last
}

// collectLocked brings the note up to date. It returns false if the note cannot hold
// everything at risk.
func (r *riskFile) collectLocked() bool {
	st, n := r.st, &r.note
	clear(n.segments)
	st.mu.Lock()
	defer st.mu.Unlock()
	if r.isStaleLocked() {
		n.risks, r.until, r.entries, r.open = n.risks[:0], [classes]uint64{}, 0, false
		clear(r.at)
	}
	if r.book.sent {
		r.book.sent = false
		r.markSent()
	}
	for c, l := range st.logs {
		if g := l.active; g != nil && g.run == st.run && g.syncedUntil > g.lo {
			n.segments[segmentKey{logRun{g.class, g.run}, g.number}] = g.syncedUntil - 1 - g.off
		}
		for _, e := range l.unsyncedFrom(r.until[c]) {
			r.addEntry(l, e)
		}
		r.until[c] = l.next
	}
	if len(n.risks) > r.most {
		r.joinRisks()
	}
	r.book.noted = len(n.risks) > 0 || r.open
	return !r.open
}

// isStaleLocked reports whether the note must be rewritten, and if so resets the counters.
func (r *riskFile) isStaleLocked() bool {
	settled, again := 0, false
	for _, l := range r.st.logs {
		settled += l.settled
		again = again || l.mustRewrite
	}
	if !again && (settled == 0 || settled < r.entries/8) {
		return false
	}
	for _, l := range r.st.logs {
		l.settled, l.mustRewrite = 0, false
	}
	return true
}

// addEntry adds an entry, if it is at risk.
func (r *riskFile) addEntry(l *log, e *memEntry) {
	if e.done || e.run != r.st.run || e.seq == 0 || e.sensor == "" {
		return
	}
	x, closed := e.risk()
	if !closed {
		r.open = true
		return
	}
	if !x.gap {
		x.sent = l.isSaidSent(e)
	}
	r.entries++
	r.add(x)
}

// add adds a risk. The risks of each log are added in order, earliest first.
func (r *riskFile) add(x risk) {
	i, some := r.at[x.sensor]
	if some {
		if y := &r.note.risks[i]; y.sent == x.sent && y.gap == x.gap && y.hi+1 == x.lo {
			y.hi = x.hi
			return
		}
	}
	r.at[x.sensor] = len(r.note.risks)
	r.note.risks = append(r.note.risks, x)
}

// replaceRisks adds the risks of the note again, changed by f.
func (r *riskFile) replaceRisks(f func(risk) risk) {
	all := r.note.risks
	r.note.risks = all[:0] // writing never overtakes reading
	clear(r.at)
	for _, x := range all {
		r.add(f(x))
	}
}

// markSent records that everything in the note may have been sent.
func (r *riskFile) markSent() {
	r.replaceRisks(func(x risk) risk {
		x.sent = x.sent || !x.gap
		return x
	})
}

// joinRisks reduces the number of risks. If joining risks of different logs is not enough,
// each sensor gets one risk, from the first to the last of its counts, as if all between had
// been sent.
func (r *riskFile) joinRisks() {
	slices.SortFunc(r.note.risks, compareRisks)
	r.replaceRisks(func(x risk) risk { return x })
	if len(r.note.risks) <= r.most/2 {
		return
	}
	all := r.note.risks
	r.note.risks = all[:0]
	for _, x := range all {
		x.sent, x.gap = true, false
		if n := len(r.note.risks); n > 0 && r.note.risks[n-1].sensor == x.sensor {
			y := &r.note.risks[n-1]
			y.hi = max(y.hi, x.hi)
			continue
		}
		r.at[x.sensor] = len(r.note.risks)
		r.note.risks = append(r.note.risks, x)
	}
}

func compareRisks(a, b risk) int {
	return cmp.Or(cmp.Compare(a.sensor, b.sensor), cmp.Compare(a.lo, b.lo))
}

// risk returns what is lost with the entry. closed is false if its end is unknown.
func (e *memEntry) risk() (x risk, closed bool) {
	h, _ := peek(e.form)
	if !h.gap() {
		return risk{sensor: e.sensor, lo: e.seq, hi: e.seq}, true
	}
	_, g, err := decodeEntry(Events, e.form)
	if err != nil || g.Last < g.First {
		return risk{}, false
	}
	return risk{e.sensor, g.First, g.Last, g.Uncertain, true}, true
}

// remove removes the file, because nothing is at risk any longer, or it is unknown what is.
func (r *riskFile) remove() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.removeLocked()
}

func (r *riskFile) removeLocked() {
	if r.file == nil {
		return
	}
	r.st.mu.Lock()
	r.book = riskBook{}
	r.st.mu.Unlock()
	_ = r.file.Truncate(0) // the name may now lead elsewhere
	_ = r.file.Close()
	_ = os.Remove(filepath.Join(r.dir, riskName(r.note.run)))
	r.file = nil
}

// riskBook is what Spool must know about the risk file. The lock of the store guards it, and
// its methods need that lock.
type riskBook struct {
	noting bool // there is a file
	noted  bool // the file has any risk
	sent   bool // the file must say that everything in it may have been sent
}

// givenRisk says what the risk file must still record about an item that Next returns.
type givenRisk int

const (
	givenSafe    givenRisk = iota // it need not contain the item
	givenNoted                    // it contains the item, or gets it from a running Append
	givenUnnoted                  // it does not say yet that the item may have been sent
)

// give marks the entry of an item as sent, if it is at risk, and with it all that may follow,
// so that the file need not be written for each one.
func (b *riskBook) give(st *store, item uint64) givenRisk {
	if !b.noting {
		return givenSafe
	}
	c, id := splitItemID(item)
	switch e := st.logs[c].inMemory(id); {
	case e == nil, e.synced, e.run != st.run:
		return givenSafe
	case b.sent: // another caller got one and has not written the file yet
		return givenUnnoted
	case st.logs[c].isSaidSent(e):
		return givenNoted
	}
	for _, l := range st.logs {
		l.saidSentUntil = l.next
	}
	b.sent = true
	return givenUnnoted
}

// ended reports whether the file has any risk although nothing is at risk any longer.
func (b *riskBook) ended(st *store) bool {
	return b.noted && !anyUnsynced(st.logs[:])
}

// hasUnsynced reports whether any entry that is not durable is owed.
func (l *log) hasUnsynced() bool {
	for _, e := range slices.Backward(l.mem) {
		if e.synced {
			return false
		}
		if !e.done {
			return true
		}
	}
	return false
}

// killLosses determines what the kill of one run has cost, from its risk file and from what
// is found in its other files.
type killLosses struct {
	note    *riskNote // nil if there is no usable one
	found   map[string]*ids
	missing map[segmentKey]uint64 // what the active segments should contain and was not found
	damaged string                // a segment of the run that is damaged, and why; "" if none is
}

// newKillLosses returns the losses of a note's run, before anything is found.
func newKillLosses(n *riskNote) killLosses {
	return killLosses{note: n, found: map[string]*ids{}, missing: maps.Clone(n.segments)}
}

// sawSegment records how far a segment can be read.
func (k *killLosses) sawSegment(g *segment, seq uint64) {
	key := segmentKey{logRun{g.class, g.run}, g.number}
	if until, some := k.missing[key]; some && seq >= until {
		delete(k.missing, key)
	}
}

// sawDamage records that a segment is damaged, and why. The risk file does not have what was on
// disk.
func (k *killLosses) sawDamage(g *segment, why string) {
	if k.note != nil && k.note.run == g.run && k.damaged == "" {
		k.damaged = g.file() + ": " + why
	}
}

// saw records an entry or a gap that was found and is owed.
func (k *killLosses) saw(h head, form []byte) {
	if k.note == nil || h.run != k.note.run {
		return
	}
	lo, hi := h.seq, h.seq
	if h.gap() {
		_, g, err := decodeEntry(Events, form)
		if err != nil {
			return
		}
		lo, hi = g.First, g.Last
		if hi == 0 {
			hi = math.MaxUint64 - 1
		}
	}
	if lo == 0 || hi < lo {
		return
	}
	for _, x := range k.note.risks {
		if x.sensor == string(h.sensor) && lo <= x.hi && x.lo <= hi {
			s := k.found[x.sensor]
			if s == nil {
				s = &ids{}
				k.found[x.sensor] = s
			}
			s.add(max(lo, x.lo), min(hi, x.hi)+1)
		}
	}
}

// unusable returns why the risk file cannot say what is lost, "" if it can. A file of the run
// was damaged or removed since.
func (k *killLosses) unusable(acks ackState) string {
	if k.damaged != "" {
		return "a segment is damaged: " + k.damaged
	}
	for _, key := range slices.SortedFunc(maps.Keys(k.missing), compareSegmentKeys) {
		if !acks.removed[key] {
			g := segment{class: key.class, run: key.run, number: key.number}
			return fmt.Sprintf("%s does not have what was on disk", g.file())
		}
	}
	return ""
}

func compareSegmentKeys(a, b segmentKey) int {
	return cmp.Or(cmp.Compare(a.class, b.class), cmp.Compare(a.run, b.run), cmp.Compare(a.number, b.number))
}

// addTo adds the losses to a tally.
func (k *killLosses) addTo(t *tally) {
	risks := slices.Clone(k.note.risks)
	slices.SortFunc(risks, compareRisks)
	for _, x := range risks {
		o, found := origin{x.sensor, k.note.run}, k.found[x.sensor]
		if found == nil {
			found = &ids{}
		}
		for lo := found.free(x.lo); lo <= x.hi; {
			hi := x.hi
			if i := found.find(lo); i < len(found.spans) {
				hi = min(hi, found.spans[i].lo-1)
			}
			if x.sent {
				t.addUncertain(o, loss{lo: lo, hi: hi})
			} else {
				t.addLoss(o, loss{lo: lo, hi: hi})
			}
			lo = found.free(hi + 1)
		}
	}
}
