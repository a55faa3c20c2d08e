package spool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/durable"
	"fieldpost/daemon/health"
	"fieldpost/daemon/journal"
	"fieldpost/daemon/task"
)

// ErrClosed is the error of Append after the end of Run or Close.
var ErrClosed = errors.New("spool is closed")

// Options say where the spool is and how large it may become.
type Options struct {
	Dir        string         // the directory; it is created if it is missing. No other process may use it
	RuntimeDir string         // an existing directory that survives the process, but not a power cut (systemd's RuntimeDirectory=): it records what a kill would cost, and a run without a disk, so that its crash is reported; "" is none
	Thing      string         // the name of the board; entries keep it, see [Source]
	Board      string         // a fingerprint of the board: a directory from another board gets a new id; "" is unknown
	AtRisk     time.Duration  // a power cut may cost the unacknowledged entries of this much time; 0: each entry is on disk before Next returns it
	Sensors    []string       // the known sensors: a crash is reported for each, even if it had no entry yet. Entries of other sensors are accepted too
	MaxBytes   int64          // the most disk space to use, at least 1 MiB; 0 is 64 MiB
	MaxAge     time.Duration  // how old an entry may become; 0 is unlimited
	Memory     int64          // the most memory for entries while the disk fails, at least 512 KiB; 0 is 4 MiB
	Clock      clock.Clock    // stamps gaps, and determines the age of entries
	Health     *health.Health // receives the faults of the spool from Open, Run and Close; nil is none
	Log        *slog.Logger   // nil discards

	// RefusedLine returns the line of refused.jsonl, with its line end, for an item that
	// [Spool.Refuse] sets aside. nil: there is no such file.
	RefusedLine func(x Item, reason string, at time.Time) ([]byte, error)
}

const (
	defaultBytes  = 64 << 20
	leastBytes    = 1 << 20
	defaultMemory = 4 << 20
	leastMemory   = 512 << 10
)

// complete fills in the defaults. An error names the invalid option.
func (o Options) complete() (Options, error) {
	if o.MaxBytes == 0 {
		o.MaxBytes = defaultBytes
	}
	if o.Memory == 0 {
		o.Memory = defaultMemory
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	switch {
	case o.Dir == "":
		return o, errors.New("open spool: no directory given")
	case o.Clock == nil:
		return o, errors.New("open spool: no clock given")
	case o.AtRisk < 0:
		return o, fmt.Errorf("open spool: time at risk of %v is negative", o.AtRisk)
	case o.MaxAge < 0:
		return o, fmt.Errorf("open spool: greatest age of %v is negative", o.MaxAge)
	case o.MaxBytes < leastBytes:
		return o, fmt.Errorf("open spool: bound of %d bytes is less than %d", o.MaxBytes, leastBytes)
	case o.Memory < leastMemory:
		return o, fmt.Errorf("open spool: memory of %d bytes is less than %d", o.Memory, leastMemory)
	}
	return o, nil
}

// Spool is a durable, bounded queue of entries.
type Spool struct {
	st     *store
	writer *writer
	reader *reader
	risks  *riskFile
}

// Open opens the spool in a directory and starts a new run.
//
// If another process uses the directory, the error is a [*LockedError]. A disk that
// cannot be used is no error: the spool works in memory, raises
// [health.SpoolUnavailable], and [Spool.Run] retries.
func Open(o Options) (*Spool, error) { return open(o, newDisk(o.Dir)) }

func open(o Options, d disk) (*Spool, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	st := newStore(o)
	w := newWriter(o, st, d)
	if err := w.start(); err != nil {
		return nil, err
	}
	return &Spool{st, w, &reader{o, d, st, &w.dir, w.watch}, w.risks}, nil
}

// start opens the directory and determines the run number.
func (w *writer) start() error {
	diskless := w.runtime.recall()
	w.risks.recall()
	if w.runtime.unsure {
		w.risks.earlier.markSent()
	}
	err := w.attach()
	if locked := (*LockedError)(nil); errors.As(err, &locked) {
		return fmt.Errorf("open spool: %w", err)
	}
	d := &w.dir
	if err == nil {
		run := d.known + 1
		if diskless < epoch<<20 { // a counted number of a run that then lost its disk
			run = max(d.known, diskless) + 1
		}
		if !d.counted {
			run = makeRunNumber(w.o.Clock.Now(), max(d.known, diskless))
		}
		w.st.setRun(run, d.id)
		w.risks.begin(w.disk.Place()) // before any file says that this run is running
		err = w.bringUpToDate()
	}
	if err != nil {
		w.risks.abandon()
		w.st.setRun(makeRunNumber(w.o.Clock.Now(), max(d.known, diskless)), d.id)
		w.fail(time.Now(), err)
	}
	w.runtime.update(d.recorded)
	w.risks.update(d.recorded, w.disk.Place)
	return nil
}

// attach locks the directory and takes over its content.
func (w *writer) attach() error {
	f, err := w.dir.load()
	if err != nil {
		return err
	}
	if w.runtime.unsure {
		f.markAllGiven()
	}
	w.dir.adopt(f)
	w.install(f)
	return nil
}

// install inserts the entries of earlier runs before those in memory.
func (w *writer) install(f *found) {
	st := w.st
	st.mu.Lock()
	defer st.mu.Unlock()
	for i, l := range st.logs {
		x := f.logs[i]
		l.insertFound(f.ids, x.segs, x.done, x.given, x.pending)
		w.segments[i].number = max(w.segments[i].number, x.number)
	}
	st.enqueueAllLocked()
	maps.Copy(st.gaps.owed, f.gaps)
	st.garbage = append(st.garbage, f.empty...)
	for _, g := range f.damaged {
		if g.live == 0 {
			st.losses.segments = append(st.losses.segments, g)
		}
	}
	w.repairs.damaged, w.repairs.torn = f.damaged, f.torn
	st.stats.Damaged += uint64(len(f.damage))
	st.damaged = st.damaged || len(f.damage) > 0
	for _, x := range f.logs {
		st.appendGapsLocked(x.damage, reasonDamaged)
	}
	st.appendGapsLocked(f.crash, reasonCrash)
	for _, form := range f.missing {
		st.appendAgainLocked(form)
	}
	st.ready.Set()
}

// Run writes entries to the disk until ctx ends. Then it writes and syncs everything that
// is not acknowledged, and records an orderly stop; from then on Append fails. If that
// does not succeed, the error says why, and the next Open reports uncertain gaps. Call
// Run once.
func (s *Spool) Run(ctx context.Context) error {
	if s.writer.began {
		return errors.New("run spool: it has already run")
	}
	s.writer.began = true
	reading, stop := context.WithCancel(context.Background())
	others := task.NewGroup(ctx)
	others.Go("spool reader", func() { s.reader.run(reading) })
	defer stop()
	err := s.writer.run(ctx)
	stop()
	others.Wait() // not deferred: if the writer panics, its disk may hang
	return err
}

// Close unlocks the directory. Call it after Run has returned. If Run was never called,
// Close writes everything first.
func (s *Spool) Close() error {
	err := s.writer.finish()
	return errors.Join(err, s.writer.dir.close())
}

// RunNumber returns the number of this run: the last run's plus one. If the last number
// cannot be read, or the new one cannot be made durable, it is made from the wall clock
// and random bits instead, greater than any known number, so that no two runs share one;
// such a number is about 10^15. Any goroutine.
func (s *Spool) RunNumber() uint64 { return s.st.run }

// Source returns the source of what is appended in this run. Any goroutine.
func (s *Spool) Source() Source { return s.st.source }

// Journal returns the file of a journal in the directory of the spool. The journal can use
// the directory whenever the spool can. If the file or the directory is removed or
// replaced, the spool restores the file. Any goroutine.
func (s *Spool) Journal(name string) *journal.File { return s.writer.dir.journal(name) }

// Verify makes the writer check soon whether the directory is still the one that was
// opened. Call it from time to time, because the spool checks only when it writes. It
// costs a few file name look-ups and does not wait. Any goroutine.
func (s *Spool) Verify() {
	s.writer.dir.verify.Store(true)
	s.st.work.Set()
}

// Append stores an entry. It does not wait for the disk. It copies the body. Any
// goroutine.
//
// It fails if the class does not exist, if the entry is larger than 128 KiB, or after the
// end of the spool ([ErrClosed]).
func (s *Spool) Append(e Entry) error { return s.AppendAll([]Entry{e}) }

// AppendAll stores entries in their order, like an Append of each, but takes the locks,
// writes the risk file and signals Ready once for all of them. It does not wait for the
// disk. It copies the bodies. Any goroutine.
//
// An entry that Append would refuse is left out, and the others are stored; the error joins
// the reasons and names the sensors. After the end of the spool nothing is stored
// ([ErrClosed]). Next returns none of the entries before all of them are stored, and no
// entry of another goroutine comes between them. Otherwise each is on its own: after a power
// cut or a kill, some may be in a file and others in a gap.
func (s *Spool) AppendAll(entries []Entry) error { return s.appendAll(entries, nil) }

// appendAll is AppendAll. kept, if not nil, belongs to the only entry.
func (s *Spool) appendAll(entries []Entry, kept chan struct{}) error {
	var few [16][]byte // on the stack
	forms, err := encodeEntries(few[:0], entries)
	s.risks.mu.Lock()
	defer s.risks.mu.Unlock()
	if err := s.append(entries, forms, kept); err != nil {
		return err
	}
	s.risks.saveLocked()
	return err
}

// encodeEntries appends the form of each entry to forms; nil for those that cannot be stored.
// The error says which and why.
func encodeEntries(forms [][]byte, entries []Entry) ([][]byte, error) {
	var errs []error
	for _, e := range entries {
		var form []byte
		if e.Class < 0 || e.Class >= classes {
			errs = append(errs, fmt.Errorf("append to spool: entry of %q: there is no class %d", e.Sensor, e.Class))
		} else if form = appendEntry(make([]byte, 0, 64+len(e.Sensor)+len(e.Body)), e); len(form) > durable.MaxPayload {
			errs = append(errs, fmt.Errorf("append to spool: entry of %q: its %d bytes are more than %d", e.Sensor, len(form), durable.MaxPayload))
			form = nil
		}
		forms = append(forms, form)
	}
	return forms, errors.Join(errs...)
}

// append adds the entries that have a form.
func (s *Spool) append(entries []Entry, forms [][]byte, kept chan struct{}) error {
	st := s.st
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.ended {
		return fmt.Errorf("append to spool: %w", ErrClosed)
	}
	now, before := time.Now(), st.stats.Appended
	for i, form := range forms {
		if form != nil {
			st.appendLocked(now, entries[i], nil, form).kept = kept
			st.stats.Appended++
			st.limitMemoryLocked()
		}
	}
	if st.stats.Appended > before {
		st.stats.Appends++
	}
	return nil
}

// appendLocked adds an entry or a gap in its form, and returns it. now is the present time.
func (st *store) appendLocked(now time.Time, e Entry, g *Gap, form []byte) *memEntry {
	l := st.logs[e.Class]
	if g != nil {
		st.gaps.add(l.next, *g, form)
	}
	x := &memEntry{form: form, sensor: e.Sensor, run: e.Run, seq: countOf(e, g), at: now, saidSent: !l.flow(e.Sensor).waits()}
	l.append(x)
	st.schedule.enqueue(x.flow)
	if e.Seq > 0 && e.Run == st.run && st.sensors.see(e) && st.due.sensors.IsZero() {
		st.due.sensors = now
		st.work.Set()
	}
	st.unwrittenLocked(now)
	st.readyLocked(e.Class)
	return x
}

// countOf returns the count that is lost if an entry is lost: its own, or the first one that
// a gap covers.
func countOf(e Entry, g *Gap) uint64 {
	if g != nil {
		return g.First
	}
	return e.Seq
}

// Ready is signalled when Next may return more items; see [Spool.SetLinger].
func (s *Spool) Ready() <-chan struct{} { return s.st.ready.C() }

// Wake signals Ready, for a caller that transforms what Next returns. Any goroutine.
func (s *Spool) Wake() { s.st.ready.Set() }

// Next returns the next unsent item. Events are first, but after three of them comes one
// other item, if any is waiting. The others take turns by sensor and class, so the backlog of
// one does not delay another. Each keeps its own order.
//
// Next never waits for the disk. While a backlog is read back it may return nothing; then
// Ready says when to call it again. It returns entries from files only while Run runs. If
// events are on a disk that hangs, others pass them. After the context of Run has ended it
// returns nothing. Any goroutine.
func (s *Spool) Next() (Item, bool) {
	item, ok, risk := s.next()
	s.risks.given(risk)
	return item, ok
}

func (s *Spool) next() (Item, bool, givenRisk) {
	st := s.st
	st.mu.Lock()
	defer st.mu.Unlock()
	for st.maySendLocked() {
		f := st.nextFlowLocked()
		if f == nil {
			break
		}
		if item, ok := st.giveLocked(f); ok {
			return item, true, s.risks.book.give(st, item.ID)
		}
	}
	st.linger.endLocked() // the caller gets all delayed samples
	return Item{}, false, givenSafe
}

// More returns the next item of the same sensor and class out of turn, to send several
// items in one message. id must be the item that Next or More returned last. The item
// counts against later turns of that sensor. More may return nothing although Next would
// return such an item later. Any goroutine.
func (s *Spool) More(id uint64) (Item, bool) {
	item, ok, risk := s.more(id)
	s.risks.given(risk)
	return item, ok
}

func (s *Spool) more(id uint64) (Item, bool, givenRisk) {
	st := s.st
	st.mu.Lock()
	defer st.mu.Unlock()
	f := st.schedule.last
	for st.maySendLocked() && f != nil && st.schedule.lastID == id && st.availableLocked(f) == available {
		if item, ok := st.giveLocked(f); ok {
			return item, true, s.risks.book.give(st, item.ID)
		}
	}
	return Item{}, false, givenSafe
}

// Rewind marks everything that is not acknowledged as unsent. Any goroutine.
func (s *Spool) Rewind() {
	st := s.st
	st.mu.Lock()
	defer st.mu.Unlock()
	st.schedule.reset()
	for _, l := range st.logs {
		l.rewind()
	}
	st.enqueueAllLocked()
	st.linger.first = true
	st.ready.Set()
}

// Ack removes an item that the broker has. It does nothing if the item was acknowledged or
// dropped before, or never sent. Any goroutine.
func (s *Spool) Ack(id uint64) {
	if s.ack(id) {
		s.risks.save()
	}
}

// ack is Ack. It reports whether nothing is at risk any longer.
func (s *Spool) ack(id uint64) (safe bool) {
	c, id := splitItemID(id)
	st := s.st
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.logs[c].owed(id) {
		return false
	}
	st.stats.Acked++
	st.releaseLocked(heldEntry{c, id, st.logs[c].markDone(id)})
	st.ackedLocked()
	return s.risks.book.ended(st)
}

// Corrupt reports that the caller cannot decode the body of an item. The spool treats that
// as damage: a gap reports the loss, and the file is set aside. Corrupt does nothing if the
// item was acknowledged or dropped before. It does not wait for the disk. Any goroutine.
func (s *Spool) Corrupt(id uint64) {
	c, id := splitItemID(id)
	st := s.st
	st.mu.Lock()
	defer st.mu.Unlock()
	l := st.logs[c]
	if !l.owed(id) {
		return
	}
	e, g := l.inMemory(id), l.segmentOf(id)
	if e == nil && g != nil {
		g.corrupt.add(id, id+1)
		for _, f := range l.flows {
			if f.cursor == id+1 {
				f.rereadFrom(id)
				st.schedule.enqueue(f)
			}
		}
		st.read.Set()
		return
	}
	t := newTally()
	if e != nil {
		t.addEntry(st.run, e.form, true)
	}
	st.stats.Dropped++
	st.giveUpLocked(c, id)
	st.appendGapsLocked(t, reasonDamaged)
}

// LogStats has the numbers of one log.
type LogStats struct {
	Pending  int   // entries and gaps that are not acknowledged
	Segments int   // files
	Bytes    int64 // in these files
}

// Stats has the numbers of the spool. Counts are since the start.
type Stats struct {
	Run      uint64 // see [Spool.RunNumber]
	Disk     bool   // the disk can be written, as far as the spool knows
	Events   LogStats
	Samples  LogStats
	Edges    LogStats
	Bytes    int64  // on disk, without files set aside
	Memory   int64  // of entries in memory
	Appends  uint64 // appends that stored entries; an AppendAll counts once
	Appended uint64 // entries stored
	Acked    uint64 // entries and gaps acknowledged
	Dropped  uint64 // entries dropped, whatever the reason
	Refused  uint64 // entries set aside
	Gaps     uint64 // gaps recorded; one that extends an earlier gap counts too
	Damaged  uint64 // files found damaged
}

// Stats returns the numbers of the spool. Any goroutine.
func (s *Spool) Stats() Stats {
	st := s.st
	st.mu.Lock()
	defer st.mu.Unlock()
	x := st.stats
	x.Run, x.Disk = st.run, !st.down && st.hung == 0
	x.Bytes, x.Memory = st.diskBytesLocked(), st.memoryLocked()
	for i, out := range [classes]*LogStats{&x.Events, &x.Samples, &x.Edges} {
		l := st.logs[i]
		*out = LogStats{l.pending, len(l.segs), l.segmentBytes()}
	}
	return x
}

// Pending returns the number of entries and gaps that are not acknowledged.
func (x Stats) Pending() int { return x.Events.Pending + x.Samples.Pending + x.Edges.Pending }

// Backlog describes what the broker has not acknowledged.
type Backlog struct {
	Records int           // the number of entries and gaps
	AtRisk  int           // how many of these a power cut now would cost
	Oldest  time.Duration // the age of the oldest; 0 if there is none, or if it is from another boot and its time is not known
}

// Backlog returns the current backlog. If the oldest entry is only in a file, its age is
// that of the first entry in the file. Any goroutine.
func (s *Spool) Backlog() Backlog {
	st := s.st
	now := st.o.Clock.Now()
	st.mu.Lock()
	defer st.mu.Unlock()
	var b Backlog
	for _, l := range st.logs {
		b.Records += l.pending
		l.eachUnsynced(func(e *memEntry) {
			if !e.done {
				b.AtRisk++
			}
		})
		first := l.done.free(0)
		if e, g := l.inMemory(first), l.segmentOf(first); e != nil {
			b.Oldest = max(b.Oldest, time.Since(e.at))
		} else if g != nil && first < l.next {
			if a, known := ageOf(now, g.oldest); known {
				b.Oldest = max(b.Oldest, a)
			}
		}
	}
	return b
}
