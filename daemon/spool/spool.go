package spool

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/durable"
	"fieldpost/daemon/journal"
)

// ErrClosed is Append's reason once the spool has written its last.
var ErrClosed = errors.New("spool is closed")

// Spool is a durable, bounded outbox.
type Spool struct {
	o      Options
	disk   disk
	beside disk // nil where there is none
	run    uint64
	source Source
	ready  chan struct{}
	wake   chan struct{} // tells the writer that there may be something to do
	read   chan struct{} // tells the reader

	// mu is never held while the disk works.
	mu       sync.Mutex
	logs     [classes]*log
	seen     map[string]*sight
	sights   int                 // in how many lanes sensors were seen, all together
	noticed  int                 // as many are in the file of acks
	sources  tenures             // who took what is here, and what is appended
	gaps     map[uint64]*owedGap // by id, those of the events that are not acknowledged
	latest   map[origin]uint64   // the id of the latest gap of each, but for
	maybe    map[origin]uint64   // that of what may have come
	fresh    []uint64            // gaps that are not in the file of acks
	gone     []frameKey          // gaps done whose end is not in the file of acks
	acked    [classes]ids        // done, in a segment, not yet in the file of acks
	lost     []kept              // given up; released when the gap that says so is on disk
	ghosts   [classes]ids        // given up from memory: a write that is under way or failed may have left them in a file
	refused  []refusal           // to be set aside
	doomed   []*segment          // given up; removed when the gap that says so is on disk
	drop     *drop               // a segment is about to be given up; nothing is given out meanwhile
	garbage  []*segment          // to be removed
	halfGone bool                // some of lost was given up from memory and is in a file: nothing is given out until that is told or cut off
	active   [classes]*segment   // being written to
	noted    int64               // bytes of the file of acks
	since    moments
	turns    turns
	unread   []unreadRefusal // refused, and to be read first
	hung     int             // how many things a disk that hangs keeps waiting
	harmed   bool            // the fault of a damaged spool is raised
	untold   int             // gaps owed that tell of damage found in this run
	syncNow  bool            // the next write is to be synced
	down     bool            // the disk cannot be written
	ended    bool            // nothing more is taken
	full     int             // how often records were given up for want of room
	stats    Stats

	w writer

	wanted   map[noteKey]*ids // frames that were lost with a directory: should that come back, they are still owed
	journals []*journal.File

	held  atomic.Bool // the directory is ours and has been read; for journals
	looks atomic.Bool // somebody has asked for a look at it
}

// moments are when something first waited for the writer; zero when nothing
// does.
type moments struct {
	dirty    time.Time // a record in no file
	unsynced time.Time // a record not durable
	acks     time.Time // an ack not in the file of acks
	sight    time.Time // a sensor not in the file of acks
	reread   time.Time // a segment that could not be read
}

// sight is a sensor that has had records in this run.
type sight struct {
	in   [classes]bool // in which logs
	last uint64        // its latest count
}

// Open opens the spool of a directory and raises its run number.
//
// Another process that has the directory is a [*LockedError]. A disk that
// cannot be used is no error: the spool works in memory, raises
// [health.SpoolUnavailable], and [Spool.Run] tries the disk again.
func Open(o Options) (*Spool, error) {
	return open(o, newDisk(o.Dir))
}

func open(o Options, d disk) (*Spool, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	s := &Spool{
		o: o, disk: d,
		ready: make(chan struct{}, 1), wake: make(chan struct{}, 1), read: make(chan struct{}, 1),
		wanted: map[noteKey]*ids{}, seen: map[string]*sight{}, gaps: map[uint64]*owedGap{}, latest: map[origin]uint64{}, maybe: map[origin]uint64{},
	}
	for _, sensor := range o.Sensors {
		s.seen[sensor] = &sight{}
	}
	for i := range s.logs {
		s.logs[i] = newLog(Class(i))
	}
	s.w.credit = s.bound()
	s.w.notes.disk, s.w.notes.least = d, min(notesMax, o.MaxBytes/16)
	if o.Beside != "" {
		s.beside = newDisk(o.Beside)
	}
	if err := s.start(); err != nil {
		return nil, err
	}
	return s, nil
}

// RunNumber is this run's number. It is one more than the last run's. Where
// that cannot be read or the new number cannot be made durable, it is made of
// the wall clock and chance instead, greater than any number known, so that
// no two runs share one; such a number is of the order of 10^15.
func (s *Spool) RunNumber() uint64 { return s.run }

// Append takes an entry in. It does not wait for the disk. The body is copied. Any
// goroutine.
//
// The error says that the entry has no such class, or with what the spool keeps
// besides its body more than 128 KiB, or it is [ErrClosed].
func (s *Spool) Append(e Entry) error {
	if e.Class < 0 || e.Class >= classes {
		return fmt.Errorf("append to spool: there is no class %d", e.Class)
	}
	payload := appendEntry(make([]byte, 0, 64+len(e.Sensor)+len(e.Body)), e)
	if n := len(payload); n > durable.MaxPayload {
		return fmt.Errorf("append to spool: entry of %d bytes is larger than %d", n, durable.MaxPayload)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return fmt.Errorf("append to spool: %w", ErrClosed)
	}
	s.put(e, nil, payload)
	s.stats.Appended++
	s.shed()
	return nil
}

// put takes an entry or a gap in, with mu held.
func (s *Spool) put(e Entry, g *Gap, payload []byte) {
	l := s.logs[e.Class]
	now := time.Now()
	if g != nil {
		s.owe(l.next, *g, payload)
	}
	x := &entry{payload: payload, sensor: e.Sensor, run: e.Run, seq: speaksFor(e, g), at: now}
	l.push(x)
	s.turns.queue(x.flow)
	if e.Seq > 0 && e.Run == s.run {
		s.sight(e, now)
	}
	if s.since.dirty.IsZero() {
		s.since.dirty = now
		poke(s.wake)
	}
	poke(s.ready)
}

func (s *Spool) sight(e Entry, now time.Time) {
	x := s.seen[e.Sensor]
	if x == nil {
		x = &sight{}
		s.seen[e.Sensor] = x
	}
	x.last = max(x.last, e.Seq)
	if !x.in[e.Class] {
		x.in[e.Class] = true
		s.sights++
		if s.since.sight.IsZero() {
			s.since.sight = now
			poke(s.wake)
		}
	}
}

// putGaps takes gaps in, with mu held. Their loss is not to be written to disk
// later than the gaps are.
func (s *Spool) putGaps(t *tally, reason string) {
	at := s.o.Clock.Now()
	for _, x := range t.maybes(reason) {
		s.putGap(at, x, s.maybe)
	}
	for _, x := range t.gaps(reason) {
		s.putGap(at, x, s.latest)
	}
	s.syncNow = true
}

func (s *Spool) putGap(at clock.Stamp, x originGap, latest map[origin]uint64) {
	g := s.joined(x.origin, x.Gap, latest)
	e := Entry{Class: Events, Sensor: x.sensor, Run: x.run, Stamp: at}
	latest[x.origin] = s.logs[Events].next
	s.put(e, &g, appendGap(nil, e, g))
}

// Ready is signalled when Next may have more.
func (s *Spool) Ready() <-chan struct{} { return s.ready }

// Wake signals Ready, for who makes something else of what Next gives. Any goroutine.
func (s *Spool) Wake() { poke(s.ready) }

// Rewind makes everything that is not acknowledged unsent again. Any
// goroutine.
func (s *Spool) Rewind() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.turns.active {
		f.queued = false
	}
	s.turns = turns{}
	for _, l := range s.logs {
		l.rewind()
	}
	s.queueAll()
	poke(s.ready)
}

// queueAll queues all flows that may have something to give.
func (s *Spool) queueAll() {
	for _, l := range s.logs {
		for _, sensor := range slices.Sorted(maps.Keys(l.flows)) {
			if f := l.flows[sensor]; f.onDisk || f.prune() != nil {
				s.turns.queue(f)
			}
		}
	}
}

// Ack forgets a record that the broker has. An id that is not owed, because it
// was acknowledged, dropped or never given out, does nothing. Any goroutine.
func (s *Spool) Ack(id uint64) {
	i, id := split(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.logs[i].owed(id) {
		return
	}
	s.stats.Acked++
	s.release(i, id, s.logs[i].settle(id))
}

// itemID gives the number under which an id of a class is known outside.
func (s *Spool) itemID(c Class, id uint64) uint64 { return id*uint64(classes) + uint64(c) }

// split is the inverse of itemID.
func split(item uint64) (Class, uint64) {
	return Class(item % uint64(classes)), item / uint64(classes)
}

// Corrupt says that the body of an item that Next gave is not what was appended, so
// that the caller cannot read it. What its file holds of that is given up as damage.
// An id that is not owed does nothing. It never waits for the disk. Any goroutine.
func (s *Spool) Corrupt(id uint64) {
	c, id := split(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.logs[c]
	if !l.owed(id) {
		return
	}
	e, g := l.entry(id), l.segment(id)
	if e == nil && g != nil {
		g.corrupt.add(id, id+1)
		for _, f := range l.flows {
			if f.cursor == id+1 {
				f.back(id)
				s.turns.queue(f)
			}
		}
		poke(s.read)
		return
	}
	t := newTally()
	if e != nil {
		t.giveUp(s.run, e.payload, true)
	}
	s.stats.Dropped++
	s.giveUpOne(c, id)
	s.putGaps(t, reasonDamaged)
}

// release is called when the segment need no longer keep the record of an id.
func (s *Spool) release(i Class, id uint64, g *segment) {
	if i == Events {
		s.unowe(id)
	}
	if g == nil {
		return
	}
	g.live--
	s.acked[i].add(id, id+1)
	s.ackDue()
	s.retire(g)
}

// kept is a record that is done, but that its segment must go on keeping until
// something else is on disk.
type kept struct {
	class Class
	id    uint64
	seg   *segment
}

// giveUpOne makes an owed record done whose loss a gap is to tell.
func (s *Spool) giveUpOne(i Class, id uint64) {
	if e := s.logs[i].entry(id); e != nil {
		e.lost = true
	}
	if g := s.logs[i].settle(id); g != nil {
		s.lost = append(s.lost, kept{i, id, g})
	} else if i == Events {
		s.unowe(id)
	}
}

// keeping gives the ids of a lane that are done and must still be kept.
func (s *Spool) keeping(i Class) (out ids) {
	for _, x := range s.refused {
		if x.class == i {
			out.add(x.id, x.id+1)
		}
	}
	for _, x := range s.lost {
		if x.class == i {
			out.add(x.id, x.id+1)
		}
	}
	return out
}

// retire has a segment removed that nothing needs any more.
func (s *Spool) retire(g *segment) {
	if g.live > 0 || s.active[g.class] == g || s.drop != nil && s.drop.seg == g {
		return
	}
	l := s.logs[g.class]
	for k, x := range l.segs {
		if x == g {
			l.segs = append(l.segs[:k:k], l.segs[k+1:]...)
			s.garbage = append(s.garbage, g)
			s.ackDue()
			return
		}
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
