package spool

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"fieldpost/daemon/durable"
)

// Entries that the broker will never accept are stored for people in refused.jsonl, one JSON
// object per line, which the caller encodes ([Options.RefusedLine]). When that file has
// grown, it is renamed to refused.1.jsonl.
const (
	refusedName = "refused.jsonl"
	refusedOld  = "refused.1.jsonl"
	// maxRefusals bounds the refusals that wait for the disk. Further ones are counted and
	// reported, but not stored.
	maxRefusals = 256
)

// refusals are the refused entries that are not set aside yet. The lock of the store guards
// it.
type refusals struct {
	waiting []refusal       // for the writer
	unread  []unreadRefusal // for the reader, which must read them first
}

// refusal is an entry that will be written to the file.
type refusal struct {
	heldEntry
	item   Item
	reason string
	at     time.Time
}

// unreadRefusal is the refusal of an entry that is only in a segment.
type unreadRefusal struct {
	class  Class
	id     uint64
	reason string
}

// Refuse sets aside an item that can never be sent: the spool stores it in refused.jsonl,
// counts it, and reports it in a gap if it has a count. Refuse does nothing if the item was
// acknowledged or dropped before. It does not wait for the disk: an item that is only in a
// segment stays owed until it has been read. Any goroutine.
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

// refuseLocked sets an entry aside, given its form.
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
		st.appendGapsLocked(t, reasonRefused)
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

// keepRefused writes refused items to their file and releases them. If that file is bad, it
// keeps nothing else from the disk: the file is replaced, or tried again a minute later.
func (w *writer) keepRefused() error {
	w.st.mu.Lock()
	batch := w.st.refusals.waiting
	w.st.mu.Unlock()
	if len(batch) == 0 {
		return nil
	}
	w.refusedAt = time.Time{}
	err := w.writeRefused(batch)
	if err != nil && !noRoom(err) && !errors.Is(err, durable.ErrGone) {
		// Perhaps only this file is bad, or belongs to somebody else.
		if w.disk.Rename(refusedName, refusedName+damagedExt) == nil {
			err = w.writeRefused(batch)
		}
		if err != nil && !noRoom(err) && !errors.Is(err, durable.ErrGone) {
			w.refusedAt = time.Now().Add(mostRetry)
			w.o.Log.Warn("refused messages cannot be set aside now; trying again later", "dir", w.o.Dir, "err", err)
			return nil
		}
	}
	if err != nil {
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
	// If the size is not known, the file is renamed the next time.
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
		if err != nil { // another attempt would not help
			w.o.Log.Warn("refused message cannot be set aside", "sensor", x.item.Sensor, "run", x.item.Run, "seq", x.item.Seq, "err", err)
			continue
		}
		if _, err = f.Write(b); err != nil {
			return fmt.Errorf("write %q: %w", refusedName, err)
		}
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %q: %w", refusedName, err)
	}
	return w.disk.Sync()
}
