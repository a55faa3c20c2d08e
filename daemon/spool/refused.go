package spool

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"fieldpost/daemon/durable"
)

// What the broker will never take is kept for people in refused.jsonl, one JSON object
// a line, whose form is the caller's affair ([Options.RefusedLine]); when that file
// has grown it becomes refused.1.jsonl.
const (
	refusedName = "refused.jsonl"
	refusedOld  = "refused.1.jsonl"
	// maxRefusals is how many wait for the disk; what is refused beyond is counted
	// and told, but not kept.
	maxRefusals = 256
)

// refusals is what is refused and not yet set aside. The lock of the store guards it.
type refusals struct {
	waiting []refusal       // for the writer
	unread  []unreadRefusal // for the reader: they are to be read first
}

// refusal is an entry on its way into the file.
type refusal struct {
	heldEntry
	item   Item
	reason string
	at     time.Time
}

// unreadRefusal is a refusal of what is only in a file.
type unreadRefusal struct {
	class  Class
	id     uint64
	reason string
}

// Refuse sets an item aside that can never be sent: it is kept in refused.jsonl,
// counted, and where it has a count of a sensor told in a gap. An id that is not owed
// does nothing. It never waits for the disk; what is only in a file is set aside when
// it has been read, and owed until then. Any goroutine.
func (s *Spool) Refuse(id uint64, reason string) {
	c, id := splitItemID(id)
	st := s.st
	st.mu.Lock()
	defer st.mu.Unlock()
	l := st.logs[c]
	if !l.owed(id) {
		return
	}
	if e := l.inMemory(id); e != nil {
		st.refuseLocked(c, id, e.form, reason)
		return
	}
	if x := (unreadRefusal{c, id, reason}); !slices.Contains(st.refusals.unread, x) {
		st.refusals.unread = append(st.refusals.unread, x)
		st.read.Set()
	}
}

// refuseLocked sets an entry aside whose form is known.
func (st *store) refuseLocked(c Class, id uint64, form []byte, reason string) {
	l := st.logs[c]
	e, gap, err := decodeEntry(c, form)
	if err != nil || !l.owed(id) {
		return
	}
	st.stats.Refused++
	if x := l.inMemory(id); x != nil {
		x.lost = true
	}
	g := l.markDone(id)
	took := st.run
	if g != nil {
		took = g.run
	}
	held := heldEntry{c, id, g}
	if len(st.refusals.waiting) < maxRefusals {
		e.Body = slices.Clone(e.Body)
		item := Item{itemID(c, id), e, gap, st.sourceOfLocked(cmp.Or(e.Run, took))}
		st.refusals.waiting = append(st.refusals.waiting, refusal{held, item, reason, st.o.Clock.Now().Wall})
	} else {
		st.releaseLocked(held)
	}
	if e.Seq > 0 && e.Sensor != "" {
		t := newTally()
		t.addLoss(origin{e.Sensor, e.Run}, loss{lo: e.Seq, hi: e.Seq})
		st.tellLocked(t, reasonRefused)
	}
	st.work.Set()
}

// refuseUnread reads an entry and refuses it.
func (r *reader) refuseUnread(x unreadRefusal) {
	st := r.st
	st.mu.Lock()
	l := st.logs[x.class]
	g := l.segmentOf(x.id)
	if !l.owed(x.id) || g == nil {
		st.mu.Unlock()
		return
	}
	size := g.size
	st.mu.Unlock()
	data, err := readSegment(r.disk, g, size)
	at := durable.Scan(data, headerSize)
	for at.Next() && at.Seq < x.id-g.off {
	}
	if err == nil && (at.Payload == nil || at.Seq != x.id-g.off) {
		err = errMissing
	}
	if err != nil {
		r.failed(g, err)
		return
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.refuseLocked(x.class, x.id, at.Payload, x.reason)
}

// keepRefused writes what was refused to its file, and releases it.
func (w *writer) keepRefused() error {
	w.st.mu.Lock()
	batch := w.st.refusals.waiting
	w.st.mu.Unlock()
	if len(batch) == 0 {
		return nil
	}
	if err := w.writeRefused(batch); err != nil {
		return err
	}
	w.st.mu.Lock()
	defer w.st.mu.Unlock()
	w.st.refusals.waiting = slices.Clone(w.st.refusals.waiting[len(batch):])
	for _, x := range batch {
		w.st.releaseLocked(x.heldEntry)
	}
	return nil
}

func (w *writer) writeRefused(batch []refusal) error {
	if w.o.RefusedLine == nil {
		return nil
	}
	// An unknown size is taken for none; the file is bounded the next time.
	if n, err := w.disk.Size(refusedName); err == nil && n > w.o.MaxBytes/32 {
		if err := w.disk.Rename(refusedName, refusedOld); err != nil {
			return fmt.Errorf("rename %q: %w", refusedName, err)
		}
	}
	f, err := w.disk.Append(refusedName)
	if err != nil {
		return fmt.Errorf("open %q: %w", refusedName, err)
	}
	defer f.Close()
	for _, x := range batch {
		b, err := w.o.RefusedLine(x.item, x.reason, x.at)
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
	return w.disk.Sync()
}
