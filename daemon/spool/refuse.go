package spool

import (
	"encoding/json"
	"fmt"
	"time"
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
	record Record
	reason string
	at     time.Time
}

// line is the refusal's line in the file.
func (x refusal) line() ([]byte, error) {
	b, err := json.Marshal(struct {
		Refused string          `json:"refused"`
		At      time.Time       `json:"at"`
		Message json.RawMessage `json:"message"`
	}{x.reason, x.at, Encode("", x.record)})
	return append(b, '\n'), err
}

// Refuse sets a record aside that can never be sent: it is kept in
// refused.jsonl, counted, and for a reading or an edge reported as a gap. An
// id that is not owed does nothing. Any goroutine; it may wait for the disk.
func (s *Spool) Refuse(id uint64, reason string) {
	i, id := int(id%lanes), id/lanes
	r, ok := s.fetch(i, id)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lanes[i]
	if !l.owed(id) {
		return
	}
	s.stats.Refused++
	if e := l.entry(id); e != nil {
		e.lost = true
	}
	g := l.settle(id)
	if len(s.refused) < refusals {
		s.refused = append(s.refused, refusal{kept{i, id, g}, r, reason, s.o.Clock.Now().Wall})
	} else {
		s.release(i, id, g)
	}
	if r.Seq > 0 && r.Sensor != "" {
		t := newTally()
		t.lose(origin{r.Sensor, r.Run}, loss{lo: r.Seq, hi: r.Seq})
		s.putGaps(t, reasonRefused)
	}
	poke(s.wake)
}

// fetch gives the record of an id that is owed.
func (s *Spool) fetch(i int, id uint64) (Record, bool) {
	s.reading.Lock()
	defer s.reading.Unlock()
	s.mu.Lock()
	l := s.lanes[i]
	var payload []byte
	var g *segment
	var size int64
	if l.owed(id) {
		if e := l.entry(id); e != nil {
			payload = e.payload
		} else if g = l.segment(id); g != nil {
			size = g.size
		}
	}
	s.mu.Unlock()
	if g != nil {
		var err error
		if payload, err = s.pages[i].payload(s.disk, g, size, id); err != nil {
			s.unreadable(i, id, g, err)
			return Record{}, false
		}
	}
	if payload == nil {
		return Record{}, false
	}
	r, err := decodeRecord(payload)
	return r, err == nil
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
		s.release(x.lane, x.id, x.seg)
	}
	return nil
}

func (s *Spool) writeRefused(batch []refusal) error {
	// An unknown size is taken for none; the file is bounded the next time.
	if n, err := s.disk.size(refusedName); err == nil && n > s.o.MaxBytes/32 {
		if err := s.disk.rename(refusedName, refusedOld); err != nil {
			return fmt.Errorf("rename %q: %w", refusedName, err)
		}
	}
	f, err := s.disk.add(refusedName)
	if err != nil {
		return fmt.Errorf("open %q: %w", refusedName, err)
	}
	defer f.Close()
	for _, x := range batch {
		b, err := x.line()
		if err == nil {
			_, err = f.Write(b)
		}
		if err != nil {
			return fmt.Errorf("write %q: %w", refusedName, err)
		}
	}
	if err := f.sync(); err != nil {
		return fmt.Errorf("sync %q: %w", refusedName, err)
	}
	return s.disk.sync()
}
