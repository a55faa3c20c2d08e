package spool

import (
	"slices"

	"fieldpost/daemon/durable"
)

// A segment of which little is needed any more is written anew with only that, and
// with the one before it where that is small too, so that there are few files. The
// new file takes the place of the first in one step. Before that the file of acks says
// where it will end, and which others it stands for: so that after a crash the next run
// knows which of the two it finds.
//
// What that may write is bounded by what was appended: for each byte of samples
// and edges one may be written once more, and as many as the disk's bound when a
// run begins. Beyond that whole segments are given up instead, and so they are where
// the disk has no room for the new file.

// affords reports whether so many bytes may be written anew. Only the writer calls
// it.
func (s *Spool) affords(n int64) bool { return n <= s.w.credit }

// compact writes a segment anew without what is done. Only the writer calls it.
func (s *Spool) compact(g *segment) error {
	if s.isActive(g) {
		if err := s.roll(g.class); err != nil {
			return err
		}
	}
	s.mu.Lock()
	group := s.group(g)
	s.mu.Unlock()
	if group == nil {
		return s.sweep() // nothing of it is needed, or it is gone
	}
	first := group[0]
	fresh := &segment{class: first.class, run: first.run, number: first.number, off: first.off}
	b := first.header()
	for _, x := range group {
		data, err := s.disk.Read(x.file(), int(min(x.size, maxFile)))
		if err != nil {
			return err
		}
		b = s.pick(fresh, x, data, b)
	}
	if fresh.frames == 0 {
		return s.sweep()
	}
	if err := s.noteExchange(group, fresh); err != nil {
		return err
	}
	if err := durable.Replace(s.disk, first.file(), b); noRoom(err) {
		s.w.credit = 0 // so whole segments go, which needs no room
		return nil
	} else if err != nil {
		return err
	}
	s.w.credit -= int64(len(b))
	s.exchanged(group, fresh, int64(len(b)))
	return s.sweep()
}

// noteExchange durably notes what is about to become one file.
func (s *Spool) noteExchange(group []*segment, fresh *segment) error {
	if s.w.notes.file == nil {
		if err := s.rewriteNotes(); err != nil {
			return err
		}
	}
	first, last := group[0], fresh.sure-1-fresh.off
	return s.appendNotes(func(f *frames) {
		if first.sure > 0 && last < first.sure-1-first.off { // else it would seem to have been cut short
			f.fileUntil(first, last)
		}
		if len(group) > 1 {
			f.joined(group, last)
		}
		s.marks(f)
	}, true)
}

// group gives a segment, and those before it that are to become one with it; nil
// where it need not be written anew. Called with mu held.
func (s *Spool) group(g *segment) []*segment {
	segs := s.logs[g.class].segs
	k := slices.Index(segs, g)
	if k < 0 || g.live == 0 {
		return nil
	}
	size := g.size * int64(g.live) / int64(max(g.frames, 1)) // about what is left of it
	group := []*segment{g}
	for k--; k >= 0; k-- {
		x := segs[k]
		if x.bad || x.run != g.run || x.off != g.off || x.live == 0 || slices.Contains(s.w.torn, x) ||
			x.size > 2*size || x.size+size > segmentSize || !s.affords(x.size+size) || s.tooLong(x, g) {
			break
		}
		size += x.size
		group = append([]*segment{x}, group...)
	}
	return group
}

// tooLong reports whether what lies between two segments' records is too long a
// time for one file: what is in a file grows too old together.
func (s *Spool) tooLong(first, last *segment) bool {
	d, known := age(last.newest, first.oldest)
	return s.o.MaxAge > 0 && (!known || d > s.o.MaxAge/8)
}

// pick appends to b the frames of a segment that are still needed, and notes them
// in the one that is made.
func (s *Spool) pick(fresh, g *segment, data, b []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.logs[g.class]
	keep := s.keeping(g.class)
	at := durable.Scan(data, headerSize)
	for at.Next() {
		id := g.off + at.Seq
		if id < g.lo || id >= g.hi || !l.owed(id) && !keep.has(id) {
			continue
		}
		h, ok := peek(at.Payload)
		if !ok {
			continue // what cannot be read is found out about by who reads it
		}
		b = durable.AppendFrame(b, at.Seq, at.Payload)
		fresh.frames++
		fresh.sure = id + 1
		fresh.note(string(h.sensor), h.run, h.seq, durable.FrameLen(at.Payload))
	}
	return b
}

// exchanged has the first of a group stand for all, as its file is the new one.
func (s *Spool) exchanged(group []*segment, fresh *segment, size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first, last := group[0], group[len(group)-1]
	l := s.logs[first.class]
	for _, x := range group[1:] {
		first.live += x.live
		l.segs = without(l.segs, x)
		s.garbage = append(s.garbage, x)
		s.move(x, first)
	}
	first.hi, first.newest = last.hi, last.newest
	first.size, first.good, first.sure = size, size, fresh.sure
	first.sums, first.frames = fresh.sums, fresh.frames
	s.ackDue()
	s.retire(first)
}

// move has all that is in one segment be in another.
func (s *Spool) move(from, to *segment) {
	for _, e := range s.logs[from.class].mem {
		if e.seg == from {
			e.seg = to
		}
	}
	for k := range s.lost {
		if s.lost[k].seg == from {
			s.lost[k].seg = to
		}
	}
	for k := range s.refused {
		if s.refused[k].seg == from {
			s.refused[k].seg = to
		}
	}
}
