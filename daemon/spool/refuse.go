package spool

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"fieldpost/daemon/durable"
)

// What the broker will never take is kept for people in refused.jsonl, one
// JSON object a line; when that has grown it becomes refused.1.jsonl.
const (
	refusedName = "refused.jsonl"
	refusedOld  = "refused.1.jsonl"
	// refusals is how many wait for the disk; what is refused beyond is
	// counted and reported, but not kept.
	refusals = 256
)

// refusal is a record on its way into the file.
type refusal struct {
	kept
	item   Item
	reason string
	at     time.Time
}

// unreadRefusal is a refusal of what is in a file only.
type unreadRefusal struct {
	class  Class
	id     uint64
	reason string
}

// Refuse sets a record aside that can never be sent: it is kept in
// refused.jsonl, counted, and for a reading or an edge reported as a gap. An
// id that is not owed does nothing. It never waits for the disk; what is in a
// file only is set aside when it has been read, and owed until then. Any
// goroutine.
func (s *Spool) Refuse(id uint64, reason string) {
	i, id := split(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.logs[i]
	if !l.owed(id) {
		return
	}
	if e := l.entry(id); e != nil {
		s.refuse(i, id, e.payload, reason)
		return
	}
	if x := (unreadRefusal{i, id, reason}); !slices.Contains(s.unread, x) {
		s.unread = append(s.unread, x)
		poke(s.read)
	}
}

// refuseUnread reads a record and refuses it.
func (s *Spool) refuseUnread(x unreadRefusal) {
	s.mu.Lock()
	l := s.logs[x.class]
	g := l.segment(x.id)
	if !l.owed(x.id) || g == nil {
		s.mu.Unlock()
		return
	}
	size := g.size
	s.mu.Unlock()
	data, err := s.disk.Read(g.file(), int(min(size, maxFile)))
	at := durable.Scan(data, headerSize)
	for at.Next() && at.Seq < x.id-g.off {
	}
	if err == nil && (at.Payload == nil || at.Seq != x.id-g.off) {
		err = errMissing
	}
	if err != nil {
		s.unreadable(x.class, g, err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse(x.class, x.id, at.Payload, x.reason)
}

// refuse sets a record aside. Called with mu held.
func (s *Spool) refuse(i Class, id uint64, payload []byte, reason string) {
	l := s.logs[i]
	e, gap, err := decodeEntry(i, payload)
	if err != nil || !l.owed(id) {
		return
	}
	s.stats.Refused++
	if e := l.entry(id); e != nil {
		e.lost = true
	}
	g := l.settle(id)
	took := s.run
	if g != nil {
		took = g.run
	}
	item := Item{s.itemID(i, id), e, gap, s.sourceOf(cmp.Or(e.Run, took))}
	if len(s.refused) < refusals {
		s.refused = append(s.refused, refusal{kept{i, id, g}, item, reason, s.o.Clock.Now().Wall})
	} else {
		s.release(i, id, g)
	}
	if e.Seq > 0 && e.Sensor != "" {
		t := newTally()
		t.lose(origin{e.Sensor, e.Run}, loss{lo: e.Seq, hi: e.Seq})
		s.putGaps(t, reasonRefused)
	}
	poke(s.wake)
}

// keepRefused writes what was refused to its file, and lets go of it.
func (s *Spool) keepRefused() error {
	s.mu.Lock()
	batch := s.refused
	s.mu.Unlock()
	if len(batch) == 0 {
		return nil
	}
	if err := s.writeRefused(batch); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = append([]refusal(nil), s.refused[len(batch):]...)
	for _, x := range batch {
		s.release(x.class, x.id, x.seg)
	}
	return nil
}

func (s *Spool) writeRefused(batch []refusal) error {
	if s.o.RefusedLine == nil {
		return nil
	}
	// An unknown size is taken for none; the file is bounded the next time.
	if n, err := s.disk.Size(refusedName); err == nil && n > s.o.MaxBytes/32 {
		if err := s.disk.Rename(refusedName, refusedOld); err != nil {
			return fmt.Errorf("rename %q: %w", refusedName, err)
		}
	}
	f, err := s.disk.Append(refusedName)
	if err != nil {
		return fmt.Errorf("open %q: %w", refusedName, err)
	}
	defer f.Close()
	for _, x := range batch {
		b, err := s.o.RefusedLine(x.item, x.reason, x.at)
		if err == nil {
			_, err = f.Write(b)
		}
		if err != nil {
			return fmt.Errorf("write %q: %w", refusedName, err)
		}
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %q: %w", refusedName, err)
	}
	return s.disk.Sync()
}
