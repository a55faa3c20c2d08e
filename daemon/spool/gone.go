package spool

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"maps"
	"slices"
	"time"

	"fieldpost/daemon/durable"
	"fieldpost/daemon/health"
)

// A directory, or a file of it, can be removed, renamed or mounted over while it
// is open. Then all that is written and synced succeeds, and is for nothing. So
// after each sync, and when [Spool.Verify] asks for it, names are compared with
// what is open. What memory has then, what the files give back by their handles
// and what was read ahead is written anew, to a directory that is made again;
// what is lost has a gap.

// Verify has the writer find out soon whether the directory is still the one that
// was opened, for the time when nothing is written. It costs some looks at names.
// Any goroutine; it waits for nothing.
func (s *Spool) Verify() {
	s.looks.Store(true)
	poke(s.wake)
}

// inspect compares names with what is open. What can be put back at once is.
func (s *Spool) inspect() error {
	if !s.w.attached {
		return nil
	}
	if err := s.disk.Same(); err != nil {
		return err
	}
	var gone error
	for i, f := range s.w.files {
		if f == nil {
			continue
		}
		if err := f.There(); err != nil {
			s.miss(Class(i), err)
			gone = cmp.Or(gone, err)
		}
	}
	if gone != nil {
		return gone
	}
	if err := s.inspectNotes(); err != nil {
		return err
	}
	if s.w.recorded && s.w.place != s.disk.Place() { // the lock was put back
		s.w.identified = 0
		if err := s.identify(); err != nil {
			return err
		}
	}
	for _, x := range []struct {
		name  string
		write func() error
	}{
		{identityName, func() error { s.w.identified = 0; return s.identify() }},
		{stateName, s.record},
	} {
		if _, err := s.disk.Size(x.name); errors.Is(err, fs.ErrNotExist) && s.w.recorded {
			s.putBack(x.name)
			err = x.write()
			if err != nil {
				return err
			}
		} else if err != nil && s.w.recorded {
			return err
		}
	}
	for _, j := range s.allJournals() {
		if err := j.PutBack(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Spool) inspectNotes() error {
	f := s.w.notes.file
	if f == nil {
		return nil
	}
	err := f.There()
	if !errors.Is(err, durable.ErrGone) {
		return err
	}
	s.putBack(notesName)
	return s.rewriteNotes()
}

func (s *Spool) putBack(name string) {
	s.o.Log.Warn("file of the spool was removed, and is written anew", "dir", s.o.Dir, "file", name)
}

// missed finds out after an error whether the directory is gone, and gives it up
// then.
func (s *Spool) missed() bool {
	if s.w.lock == nil || !errors.Is(s.disk.Same(), durable.ErrGone) {
		return false
	}
	s.loseDirectory()
	return true
}

// miss gives up the lane's active segment, whose file is gone or cannot be looked
// at: its records go to a new one.
func (s *Spool) miss(i Class, err error) {
	if !errors.Is(err, durable.ErrGone) {
		s.abandon(Class(i))
		return
	}
	s.looks.Store(true) // who removes one file may have removed others
	g := s.active[i]
	data := s.byHandle(i)
	_ = s.w.files[i].Close() // nothing in it is of any use
	s.w.files[i] = nil
	b := back{s: s, t: newTally()}
	s.mu.Lock()
	l := s.logs[i]
	b.segment(g, data)
	s.active[i] = nil
	l.segs = without(l.segs, g)
	g.live = 0
	s.garbage = append(s.garbage, g) // so that it is not missed once more
	b.finish()
	s.mu.Unlock()
	b.tell(g.file() + " " + durable.ErrGone.Error())
}

// byHandle reads the lane's active segment by its handle.
func (s *Spool) byHandle(i Class) []byte {
	g, f := s.active[i], s.w.files[i]
	if g == nil || f == nil {
		return nil
	}
	data := make([]byte, g.size)
	n, _ := io.ReadFull(io.NewSectionReader(f, 0, g.size), data) // as much as there is
	return data[:n]
}

// loseDirectory gives up the directory, as its name does not stand for it any
// more: all is as if there had been none yet. The next repair looks for one.
func (s *Spool) loseDirectory() {
	s.held.Store(false)
	data := map[*segment][]byte{}
	for i := range s.w.files {
		if f := s.w.files[i]; f != nil {
			data[s.active[i]] = s.byHandle(Class(i))
			_ = f.Close() // nothing in it is of any use
			s.w.files[i] = nil
		}
	}
	s.w.notes.close()
	_ = s.w.lock.Close() // there is nothing left to be locked
	s.w.lock, s.w.attached, s.w.recorded, s.w.identified = nil, false, false, 0
	s.w.mend, s.w.torn, s.w.sights, s.w.newborn = nil, nil, -1, [classes]bool{}
	s.w.anew = true
	b := back{s: s, t: newTally()}
	s.mu.Lock()
	for i, l := range s.logs {
		for _, g := range l.segs {
			b.segment(g, data[g])
		}
		l.segs, s.active[i] = nil, nil
		s.acked[i], s.ghosts[i] = ids{}, ids{}
	}
	s.forgetFiles()
	b.finish()
	s.mu.Unlock()
	b.tell("the directory " + durable.ErrGone.Error())
}

// forgetFiles lets go of what is known of files that are gone. Called with mu
// held.
func (s *Spool) forgetFiles() {
	for _, x := range s.lost {
		if x.class == Events {
			s.unowe(x.id)
		}
	}
	for _, g := range s.doomed {
		for id := range s.gaps {
			if g.class == Events && g.lo <= id && id < g.hi {
				s.unowe(id)
			}
		}
	}
	for i := range s.refused {
		s.refused[i].seg = nil
	}
	s.lost, s.doomed, s.garbage, s.unread = nil, nil, nil, nil
	s.noted, s.since.acks, s.since.reread = 0, time.Time{}, time.Time{}
	s.fresh = slices.Sorted(maps.Keys(s.gaps))
	for id, x := range s.gaps {
		x.run, x.seq, x.noted = 0, id, false
	}
	s.gone, s.syncNow = nil, true
}

// back takes back into memory what is owed of segments whose files are gone.
type back struct {
	s     *Spool
	mem   [classes][]*entry
	t     *tally
	lost  int
	again [][]byte // gaps that are in no file any more
}

// segment takes one back. What is not in memory comes from data; what is not
// there either is lost. Called with mu held, in the order of the lane.
func (b *back) segment(g *segment, data []byte) {
	s, l := b.s, b.s.logs[g.class]
	for _, e := range l.mem {
		if e.seg == g {
			e.seg, e.synced = nil, false
		}
	}
	var found ids
	take := func(id uint64, payload []byte) {
		if id < g.lo || id >= g.hi || !l.owed(id) || found.has(id) || l.entry(id) != nil {
			return
		}
		if e, gap, err := decodeEntry(g.class, payload); err == nil {
			found.add(id, id+1)
			b.mem[g.class] = append(b.mem[g.class], &entry{
				id: id, payload: slices.Clone(payload), sensor: e.Sensor, flow: l.flow(e.Sensor),
				run: e.Run, seq: speaksFor(e, gap), at: time.Now(),
			})
		}
	}
	at := durable.Scan(data, headerSize)
	for at.Next() {
		take(g.off+at.Seq, at.Payload)
	}
	for _, f := range l.flows {
		for _, x := range f.stash {
			take(x.id, x.payload)
		}
	}
	lost, told := 0, 0
	for id := l.done.free(g.lo); id < g.hi; id = l.done.free(id + 1) {
		if found.has(id) || l.entry(id) != nil {
			continue
		}
		lost++
		l.settle(id)
		if x := s.gaps[id]; g.class == Events && x != nil {
			b.again = append(b.again, x.payload)
			told++
			s.unowe(id)
			continue
		}
		k := noteKey{g.class, g.run}
		if s.wanted[k] == nil {
			s.wanted[k] = &ids{}
		}
		s.wanted[k].add(id-g.off, id-g.off+1)
	}
	b.lost += lost
	if lost == told {
		return
	}
	g.loseAll(b.t)
	if g.class == Events {
		b.t.other(g.run, int64(lost-told), true)
	}
}

// finish puts what was taken back before what is in memory: it is older. Called
// with mu held.
func (b *back) finish() {
	s := b.s
	for i, l := range s.logs {
		for _, e := range b.mem[i] {
			l.bytes += e.cost()
		}
		slices.SortFunc(b.mem[i], func(x, y *entry) int { return cmp.Compare(x.id, y.id) })
		l.mem = append(b.mem[i], l.mem...)
		l.arrange()
	}
	s.queueAll()
	for _, payload := range b.again {
		s.again(payload)
	}
	if b.lost -= len(b.again); b.lost > 0 {
		s.stats.Dropped += uint64(b.lost)
		s.harmed = true
		s.putGaps(b.t, reasonDamaged)
	}
	poke(s.ready)
}

// tell raises a fault where something was lost.
func (b *back) tell(what string) {
	if b.lost > 0 {
		b.s.o.Health.Raise(health.SpoolDamaged, subject, what)
	}
}
