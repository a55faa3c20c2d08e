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
)

// ErrClosed is Append's reason once the spool has written its last.
var ErrClosed = errors.New("spool is closed")

// Options say where the spool is and what bounds it.
type Options struct {
	Dir        string         // the directory, made where it is missing; no other process may use it
	RuntimeDir string         // a directory that is there and outlasts the process, not the power (systemd's RuntimeDirectory=): a run that has no disk is recorded there, so that its crash is told; "" is none
	Thing      string         // the board's name, which what is appended keeps for good; see [Source]
	Board      string         // a fingerprint of the board: where the directory has another's it gets a new id; "" is not known
	AtRisk     time.Duration  // the most time's worth of unacknowledged entries a power cut may cost; 0 has each on disk before Next gives it
	Sensors    []string       // the sensors that entries may come of; a crash is told of each, also where none had come. Others may come too
	MaxBytes   int64          // bound of the disk used, at least 1 MiB; 0 is 64 MiB
	MaxAge     time.Duration  // how old an entry may become; 0 is any age
	Memory     int64          // bound of the entries in memory while the disk fails, at least 512 KiB; 0 is 4 MiB
	Clock      clock.Clock    // stamps gaps and tells ages
	Health     *health.Health // is told of the faults of the spool by Open, Run and Close; nil tells nobody
	Log        *slog.Logger   // nil discards

	// RefusedLine returns the line of refused.jsonl, with its end, for what [Spool.Refuse]
	// was called for; nil keeps no such file.
	RefusedLine func(x Item, reason string, at time.Time) ([]byte, error)
}

const (
	defaultBytes  = 64 << 20
	leastBytes    = 1 << 20
	defaultMemory = 4 << 20
	leastMemory   = 512 << 10
)

// complete fills in the defaults. An error names the option that makes no
// sense.
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

// Spool is a durable, bounded outbox.
type Spool struct {
	st     *store
	writer *writer
	reader *reader
}

// Open opens the spool of a directory and raises its run number.
//
// Another process that has the directory is a [*LockedError]. A disk that
// cannot be used is no error: the spool works in memory, raises
// [health.SpoolUnavailable], and [Spool.Run] tries the disk again.
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
	return &Spool{st, w, &reader{o, d, st, &w.dir, w.watch}}, nil
}

// start opens the directory and finds the run number.
func (w *writer) start() error {
	diskless := w.runtime.recall()
	err := w.attach()
	if locked := (*LockedError)(nil); errors.As(err, &locked) {
		return fmt.Errorf("open spool: %w", err)
	}
	d := &w.dir
	if err == nil {
		run := d.known + 1
		if diskless < epoch<<20 { // one that was counted, and then lost its disk
			run = max(d.known, diskless) + 1
		}
		if !d.counted {
			run = makeRunNumber(w.o.Clock.Now(), max(d.known, diskless))
		}
		w.st.setRun(run, d.id)
		err = w.bringUpToDate()
	}
	if err != nil {
		w.st.setRun(makeRunNumber(w.o.Clock.Now(), max(d.known, diskless)), d.id)
		w.fail(time.Now(), err)
	}
	w.runtime.update(d.recorded)
	return nil
}

// attach takes the directory and what is in it.
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

// install puts what an earlier run left ahead of what there is.
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
		st.tellLocked(x.damage, reasonDamaged)
	}
	st.tellLocked(f.crash, reasonCrash)
	for _, form := range f.missing {
		st.appendAgainLocked(form)
	}
	st.ready.Set()
}

// Run writes until ctx ends; then it writes and syncs everything that is not
// acknowledged, marks the stop as a good one and takes nothing more. The error
// says what kept it from that; the next Open then reports an uncertain gap.
// Run is called once.
func (s *Spool) Run(ctx context.Context) error {
	if s.writer.began {
		return errors.New("run spool: it has run already")
	}
	s.writer.began = true
	reading, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.reader.run(reading)
	}()
	defer func() {
		stop()
		<-ended
	}()
	return s.writer.run(ctx)
}

// Close ends the spool and frees its directory. It is called when Run has
// returned; where Run was never called it writes everything first.
func (s *Spool) Close() error {
	err := s.writer.finish()
	return errors.Join(err, s.writer.dir.close())
}

// RunNumber is this run's number. It is one more than the last run's. Where
// that cannot be read or the new number cannot be made durable, it is made of
// the wall clock and chance instead, greater than any number known, so that
// no two runs share one; such a number is of the order of 10^15. Any goroutine.
func (s *Spool) RunNumber() uint64 { return s.st.run }

// Source is who takes what is appended in this run. Any goroutine.
func (s *Spool) Source() Source { return s.st.source }

// Journal returns the file of a journal's entries in the spool's directory. While the
// spool cannot use its directory, nor can the journal; it can when the spool can.
// Where the file, or the directory, is removed or replaced, the spool puts it back
// as it was. Any goroutine.
func (s *Spool) Journal(name string) *journal.File { return s.writer.dir.journal(name) }

// Verify has the writer find out soon whether the directory is still the one that
// was opened, for the time when nothing is written. It costs some looks at names.
// Any goroutine; it waits for nothing.
func (s *Spool) Verify() {
	s.writer.dir.verify.Store(true)
	s.st.work.Set()
}

// Append takes an entry in. It does not wait for the disk. The body is copied. Any
// goroutine.
//
// The error says that the entry has no such class, or with what the spool keeps
// besides its body more than 128 KiB, or it is [ErrClosed].
func (s *Spool) Append(e Entry) error {
	if e.Class < 0 || e.Class >= classes {
		return fmt.Errorf("append to spool: there is no class %d", e.Class)
	}
	form := appendEntry(make([]byte, 0, 64+len(e.Sensor)+len(e.Body)), e)
	if n := len(form); n > durable.MaxPayload {
		return fmt.Errorf("append to spool: entry of %d bytes is larger than %d", n, durable.MaxPayload)
	}
	st := s.st
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.ended {
		return fmt.Errorf("append to spool: %w", ErrClosed)
	}
	st.appendLocked(e, nil, form)
	st.stats.Appended++
	st.limitMemoryLocked()
	return nil
}

// Ready is signalled when Next may have more.
func (s *Spool) Ready() <-chan struct{} { return s.st.ready.C() }

// Wake signals Ready, for who makes something else of what Next gives. Any goroutine.
func (s *Spool) Wake() { s.st.ready.Set() }

// Next gives the next unsent item. Events go first, but for every three of them one
// other item that waits. The others take turns by sensor and class, so that what one
// has waiting does not hold up another's; each by itself keeps its order.
//
// It never waits for the disk: while a backlog is read back there may be nothing
// for the moment, and Ready tells when there is. It gives nothing from files
// unless Run runs. Others pass events that are on a disk that hangs. When Run is to
// end it gives nothing more. Any goroutine.
func (s *Spool) Next() (Item, bool) {
	s.st.mu.Lock()
	defer s.st.mu.Unlock()
	for s.st.maySendLocked() {
		f := s.st.nextFlowLocked()
		if f == nil {
			break
		}
		if item, ok := s.st.giveLocked(f); ok {
			return item, true
		}
	}
	return Item{}, false
}

// More gives the next item of the sensor and class that Next or More gave last, which
// is to have had this id, out of turn: for who sends several in one message. It counts
// for the turns to come. There may be none now although Next will give one. Any
// goroutine.
func (s *Spool) More(id uint64) (Item, bool) {
	s.st.mu.Lock()
	defer s.st.mu.Unlock()
	f := s.st.schedule.last
	for s.st.maySendLocked() && f != nil && s.st.schedule.lastID == id && s.st.availableLocked(f) == available {
		if item, ok := s.st.giveLocked(f); ok {
			return item, true
		}
	}
	return Item{}, false
}

// Rewind makes everything that is not acknowledged unsent again. Any goroutine.
func (s *Spool) Rewind() {
	st := s.st
	st.mu.Lock()
	defer st.mu.Unlock()
	st.schedule.reset()
	for _, l := range st.logs {
		l.rewind()
	}
	st.enqueueAllLocked()
	st.ready.Set()
}

// Ack forgets an item that the broker has. An id that is not owed, because it
// was acknowledged, dropped or never given out, does nothing. Any goroutine.
func (s *Spool) Ack(id uint64) {
	c, id := splitItemID(id)
	st := s.st
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.logs[c].owed(id) {
		return
	}
	st.stats.Acked++
	st.releaseLocked(heldEntry{c, id, st.logs[c].markDone(id)})
}

// Corrupt says that the body of an item that Next gave is not what was appended, so
// that the caller cannot read it. What its file holds of that is given up as damage.
// An id that is not owed does nothing. It never waits for the disk. Any goroutine.
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
	st.tellLocked(t, reasonDamaged)
}

// LogStats counts one log.
type LogStats struct {
	Pending  int   // entries not yet acknowledged
	Segments int   // files
	Bytes    int64 // in these files
}

// Stats is the spool in numbers. The counts are since the start.
type Stats struct {
	Run      uint64 // see [Spool.RunNumber]
	Disk     bool   // the disk can be written, as far as is known
	Events   LogStats
	Samples  LogStats
	Edges    LogStats
	Bytes    int64  // on disk, without files set aside
	Memory   int64  // of entries in memory
	Appended uint64 // entries taken in
	Acked    uint64 // entries and gaps acknowledged
	Dropped  uint64 // entries given up for want of room or for their age
	Refused  uint64 // entries set aside
	Damaged  uint64 // files found damaged
}

// Stats returns the spool in numbers. Any goroutine.
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

// Pending is how many entries are not yet acknowledged.
func (x Stats) Pending() int { return x.Events.Pending + x.Samples.Pending + x.Edges.Pending }

// Backlog is what the broker has not acknowledged.
type Backlog struct {
	Records int           // how many entries and gaps
	AtRisk  int           // how many of them are not on disk for certain: a power cut now would cost them
	Oldest  time.Duration // the age of the oldest; 0 where there is none, or where that is of another boot and was not stamped with a true time
}

// Backlog tells what waits now. Where the oldest is in a file, its age is that
// of the first entry in the file. Any goroutine.
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
