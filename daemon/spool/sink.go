package spool

import (
	"errors"
	"fmt"
	"slices"
	"syscall"

	"fieldpost/daemon/durable"
)

// item is an entry on its way to the disk. Its payload is kept although the
// entry's may go, when the ack comes meanwhile.
type item struct {
	e       *entry
	payload []byte
}

// commit writes what is in no file, and syncs what is not durable if asked to.
// Events go first, so that no loss is on disk before the gap that tells of it.
func (s *Spool) commit(sync bool) error {
	if err := s.noteSights(); err != nil {
		return err
	}
	if s.cramped(s.waiting()) {
		if err := s.sweep(); err != nil {
			return err
		}
	}
	dropped, err := s.makeRoom()
	if err != nil {
		return err
	}
	need := s.waiting()
	sync = sync || dropped
	batches, told := s.batches(sync)
	if err := s.noteGaps(); err != nil {
		return err
	}
	for i := range classes {
		if err := s.write(i, batches[i]); err != nil {
			return err
		}
		if !sync {
			continue
		}
		if err := s.syncLog(i); err != nil {
			return err
		}
		if i == Events {
			s.forget(told)
			if s.cramped(need) {
				if err := s.sweep(); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// waiting is how many bytes are in no file.
func (s *Spool) waiting() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unwrittenSize()
}

// batches takes what is to be written of all lanes, as of one moment, and the
// losses of which it tells.
func (s *Spool) batches(sync bool) (out [classes][]item, told toldLoss) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, l := range s.logs {
		for _, e := range l.unwritten() {
			out[i] = append(out[i], item{e, e.payload})
		}
	}
	if sync {
		s.syncNow = false
	}
	return out, toldLoss{slices.Clone(s.lost), slices.Clone(s.doomed)}
}

// write writes a batch, to as many segments as it takes.
func (s *Spool) write(i Class, batch []item) error {
	for len(batch) > 0 {
		if g := s.active[i]; g != nil && (g.size+durable.FrameLen(batch[0].payload) > segmentSize || batch[0].e.id > g.hi+durable.MaxSkip/2) {
			if err := s.roll(i); err != nil {
				return err
			}
		}
		if s.active[i] == nil {
			if err := s.begin(i, batch[0].e.id); err != nil {
				return err
			}
		}
		n, err := s.writeSome(i, batch)
		if err != nil {
			return err
		}
		batch = batch[n:]
	}
	return nil
}

// begin makes the lane's next segment, to begin with id.
func (s *Spool) begin(i Class, id uint64) error {
	s.w.number[i]++
	g := &segment{class: i, run: s.run, number: s.w.number[i], lo: id, hi: id}
	f, err := s.disk.Create(g.file())
	if err != nil {
		return fmt.Errorf("create segment %q: %w", g.file(), err)
	}
	s.w.files[i], s.w.newborn[i] = f, true
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active[i] = g
	s.logs[i].segs = append(s.logs[i].segs, g)
	return nil
}

// writeSome writes as much of the batch as the active segment takes.
func (s *Spool) writeSome(i Class, batch []item) (int, error) {
	g := s.active[i]
	var b []byte
	if g.size == 0 {
		b = g.header()
	}
	n := 0
	for _, x := range batch {
		if n > 0 && (g.size+int64(len(b))+durable.FrameLen(x.payload) > segmentSize || x.e.id > batch[n-1].e.id+durable.MaxSkip/2) {
			break // a frame's seq follows the one before it, unless an earlier run's record had to be written anew
		}
		b = durable.AppendFrame(b, x.e.id-g.off, x.payload)
		n++
	}
	if _, err := s.w.files[i].Write(b); err != nil {
		s.writeFailed(i, err)
		return 0, fmt.Errorf("write segment %q: %w", g.file(), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range batch[:n] {
		s.wrote(g, x)
	}
	g.stamp(batch[0].payload, batch[n-1].payload)
	g.size += int64(len(b))
	if i != Events {
		s.w.credit += int64(len(b))
	}
	return n, nil
}

// wrote takes note that an item is in a segment.
func (s *Spool) wrote(g *segment, x item) {
	x.e.seg = g
	g.hi = x.e.id + 1
	if h, ok := peek(x.payload); ok {
		g.note(x.e.sensor, h.run, h.seq, durable.FrameLen(x.payload))
	}
	g.frames++
	if x.e.done && !x.e.lost { // acknowledged while it was written
		s.acked[g.class].add(x.e.id, x.e.id+1)
		return
	}
	g.live++
	if x.e.lost { // or given up
		s.lost = append(s.lost, kept{g.class, x.e.id, g})
	}
}

// stamp keeps when the first and the last record happened. The first is only
// looked at in an empty segment.
func (g *segment) stamp(first, last []byte) {
	if at, ok := stampOf(first); ok && g.size == 0 {
		g.oldest = at
	}
	if at, ok := stampOf(last); ok {
		g.newest = at
	}
}

// syncLog makes the lane's active segment durable, if it owes anything that
// is not.
func (s *Spool) syncLog(i Class) error {
	g, l := s.active[i], s.logs[i]
	if g == nil || !s.owesUnsynced(i) {
		return nil
	}
	f, err := s.w.files[i], error(nil)
	if s.w.newborn[i] {
		if err = f.Sync(); err == nil {
			err = s.disk.Sync()
		}
	} else {
		err = f.Datasync()
	}
	if err == nil {
		err = f.There()
	}
	if err != nil {
		s.miss(i, err)
		return fmt.Errorf("sync segment %q: %w", g.file(), err)
	}
	s.w.newborn[i] = false
	s.mu.Lock()
	defer s.mu.Unlock()
	g.good, g.sure = g.size, g.hi
	l.unsynced(func(e *entry) { e.synced = e.seg == g })
	if l.bytes > cached {
		l.evict(cached / 2)
	}
	if s.o.AtRisk == 0 {
		poke(s.ready)
	}
	return nil
}

func (s *Spool) owesUnsynced(i Class) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	owes := false
	s.logs[i].unsynced(func(e *entry) { owes = owes || e.seg == s.active[i] && !e.done })
	return owes
}

func (s *Spool) isActive(g *segment) bool { return s.active[g.class] == g }

// roll ends the lane's active segment.
func (s *Spool) roll(i Class) error {
	if err := s.syncLog(i); err != nil {
		return err
	}
	if g := s.active[i]; g != nil {
		if err := s.appendNotes(func(f *frames) { f.file(g) }, true); err != nil {
			return err
		}
	}
	s.shut(i)
	return nil
}

// shut closes the lane's active segment as it is.
func (s *Spool) shut(i Class) {
	g := s.active[i]
	if g == nil {
		return
	}
	_ = s.w.files[i].Close() // what matters in it has been synced
	s.w.files[i] = nil
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active[i] = nil
	s.retire(g)
}

// writeFailed deals with the lane's active segment after a write that failed.
// A disk that is full has what was written before, and can sync that.
func (s *Spool) writeFailed(i Class, err error) {
	g := s.active[i]
	if !noRoom(err) || s.disk.Truncate(g.file(), g.size) != nil {
		s.abandon(i)
		return
	}
	_ = s.syncLog(i) // which abandons it where that fails; the first error is the one to tell
}

// noRoom reports whether an error says that the disk is full.
func noRoom(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// abandon gives up the lane's active segment after an error: after a failed
// sync the kernel may have dropped what was written and say nothing the next
// time (fsync(2), EIO). What was synced before is kept, what was not goes from
// memory to a new segment.
func (s *Spool) abandon(i Class) {
	g := s.active[i]
	_ = s.w.files[i].Close() // it is not trusted, whatever this says
	s.w.files[i] = nil
	s.mu.Lock()
	s.logs[i].unsynced(func(e *entry) {
		if e.seg != g {
			return
		}
		e.seg = nil
		g.hi = min(g.hi, e.id)
		if !e.done {
			g.live--
		}
	})
	g.size = g.good
	s.active[i] = nil
	s.retire(g)
	left := g.live > 0
	s.mu.Unlock()
	if left {
		// What is behind would only come twice.
		_ = s.disk.Truncate(g.file(), g.good)
	}
}
