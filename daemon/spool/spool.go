package spool

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fieldpost/daemon/journal"
	"fieldpost/daemon/message"
)

// ErrClosed is Append's reason once the spool has written its last.
var ErrClosed = errors.New("spool is closed")

// Spool is a durable, bounded outbox.
type Spool struct {
	o      Options
	disk   disk
	beside disk // nil where there is none
	run    uint64
	source message.Source
	ready  chan struct{}
	wake   chan struct{} // tells the writer that there may be something to do
	read   chan struct{} // tells the reader

	// mu is never held while the disk works.
	mu       sync.Mutex
	lanes    [lanes]*lane
	seen     map[string]*sight
	sights   int                 // in how many lanes sensors were seen, all together
	noticed  int                 // as many are in the file of acks
	sources  tenures             // who took what is here, and what is appended
	gaps     map[uint64]*owedGap // by id, those of the events that are not acknowledged
	latest   map[origin]uint64   // the id of the latest gap of each, but for
	maybe    map[origin]uint64   // that of what may have come
	fresh    []uint64            // gaps that are not in the file of acks
	gone     []frameKey          // gaps done whose end is not in the file of acks
	acked    [lanes]ids          // done, in a segment, not yet in the file of acks
	lost     []kept              // given up; released when the gap that says so is on disk
	ghosts   [lanes]ids          // given up from memory: a write that is under way or failed may have left them in a file
	refused  []refusal           // to be set aside
	doomed   []*segment          // given up; removed when the gap that says so is on disk
	drop     *drop               // a segment is about to be given up; nothing is given out meanwhile
	garbage  []*segment          // to be removed
	halfGone bool                // some of lost was given up from memory and is in a file: nothing is given out until that is told or cut off
	active   [lanes]*segment     // being written to
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
	lanes [lanes]bool // in which lanes
	last  uint64      // its latest count
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
	for i := range s.lanes {
		s.lanes[i] = newLane(i)
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

// Append takes a record in. It does not wait for the disk. The record's fields
// are copied. Any goroutine.
//
// The error says what is wrong with the record (a value of another type, one
// that is not finite, a field named as one of the message's own, more than
// 128 KiB), or is [ErrClosed].
func (s *Spool) Append(r message.Record) error {
	payload, err := message.Append(make([]byte, 0, 160), r)
	if err != nil {
		return fmt.Errorf("append to spool: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return fmt.Errorf("append to spool: %w", ErrClosed)
	}
	s.put(r, payload)
	s.stats.Appended++
	s.shed()
	return nil
}

// put takes a record in, with mu held.
func (s *Spool) put(r message.Record, payload []byte) {
	i := laneOf(r.Kind)
	now := time.Now()
	if r.Kind == message.Gap {
		s.owe(s.lanes[i].next, r, payload)
	}
	e := &entry{payload: payload, sensor: r.Sensor, run: r.Run, seq: speaksFor(r), at: now}
	s.lanes[i].push(e)
	s.turns.queue(e.flow)
	if r.Seq > 0 && r.Run == s.run {
		s.sight(i, r, now)
	}
	if s.since.dirty.IsZero() {
		s.since.dirty = now
		poke(s.wake)
	}
	poke(s.ready)
}

func (s *Spool) sight(i int, r message.Record, now time.Time) {
	x := s.seen[r.Sensor]
	if x == nil {
		x = &sight{}
		s.seen[r.Sensor] = x
	}
	x.last = max(x.last, r.Seq)
	if !x.lanes[i] {
		x.lanes[i] = true
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
	for _, r := range t.maybes(at, reason) {
		s.putGap(r, reason, s.maybe)
	}
	for _, r := range t.gaps(at, reason) {
		s.putGap(r, reason, s.latest)
	}
	s.syncNow = true
}

func (s *Spool) putGap(r message.Record, reason string, latest map[origin]uint64) {
	r = s.joined(r, reason, latest)
	payload, err := message.Append(nil, r)
	if err == nil { // a sensor's name that was taken in once can be again
		latest[origin{r.Sensor, r.Run}] = s.lanes[events].next
		s.put(r, payload)
	}
}

// Ready is signalled when Next may have more.
func (s *Spool) Ready() <-chan struct{} { return s.ready }

// Rewind makes everything that is not acknowledged unsent again. Any
// goroutine.
func (s *Spool) Rewind() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.turns.active {
		f.queued = false
	}
	s.turns = turns{}
	for _, l := range s.lanes {
		l.rewind()
	}
	s.queueAll()
	poke(s.ready)
}

// queueAll queues all flows that may have something to give.
func (s *Spool) queueAll() {
	for _, l := range s.lanes {
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
	i, id := int(id%lanes), id/lanes
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.lanes[i].owed(id) {
		return
	}
	s.stats.Acked++
	s.release(i, id, s.lanes[i].settle(id))
}

// release is called when the segment need no longer keep the record of an id.
func (s *Spool) release(i int, id uint64, g *segment) {
	if i == events {
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
	lane int
	id   uint64
	seg  *segment
}

// giveUpOne makes an owed record done whose loss a gap is to tell.
func (s *Spool) giveUpOne(i int, id uint64) {
	if e := s.lanes[i].entry(id); e != nil {
		e.lost = true
	}
	if g := s.lanes[i].settle(id); g != nil {
		s.lost = append(s.lost, kept{i, id, g})
	} else if i == events {
		s.unowe(id)
	}
}

// keeping gives the ids of a lane that are done and must still be kept.
func (s *Spool) keeping(i int) (out ids) {
	for _, x := range s.refused {
		if x.lane == i {
			out.add(x.id, x.id+1)
		}
	}
	for _, x := range s.lost {
		if x.lane == i {
			out.add(x.id, x.id+1)
		}
	}
	return out
}

// retire has a segment removed that nothing needs any more.
func (s *Spool) retire(g *segment) {
	if g.live > 0 || s.active[g.lane] == g || s.drop != nil && s.drop.seg == g {
		return
	}
	l := s.lanes[g.lane]
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
