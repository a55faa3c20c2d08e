package history

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
	"fieldpost/daemon/journal"
)

// Subject is what [health.HistoryUnsaved] is about.
const Subject = "history"

// What may be written. A write costs whole blocks of the disk, however few bytes it has. The
// next one waits as long as its blocks may take of the day's bytes: one block an hour, two
// every two hours.
const (
	// dayBytes is what is written in a day, in bytes of whole blocks. Of the 100 KB that a day
	// may have, the rest is for the write that is not paid yet. A stop writes a few blocks more.
	dayBytes   = 96_000
	blockBytes = 4096
	// saveEvery is the least time between two writes, and what a power cut costs at least.
	saveEvery = time.Hour
	// saveLatest is the most.
	saveLatest = 12 * time.Hour

	// fineMost is for how many series the points of ten minutes are written. Of more series
	// those of half an hour are.
	fineMost = 32

	// maxFile and maxSpan are when the other file begins: in bytes, and after how many seconds.
	maxFile = 512 << 10
	maxSpan = 7 * 24 * 60 * 60
)

// Files are the two files of the history. One of them is appended to; when it has a week, the
// other one, which is older, begins again. So nothing is ever written twice in normal
// operation.
type Files [2]*journal.File

// disk is what is known of the files.
type disk struct {
	files   Files
	opened  bool
	present int    // the file that is appended to
	sound   bool   // it can be
	number  uint64 // of the last entry
	began   int64  // wall time of the present file's first entry; 0: not known
}

// Run writes the history to disk from time to time, until ctx ends, and then once more.
func (h *Store) Run(ctx context.Context) error {
	wait := saveEvery
	for {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			_, err := h.save(true)
			if err != nil {
				h.o.Log.Warn("the latest history is not stored", "err", err)
			}
			return nil
		case <-timer.C:
		}
		cost, err := h.save(false)
		if err != nil { // it may be the whole file that is written again and again
			wait = min(2*wait, saveLatest)
			continue
		}
		wait = max(waitFor(cost), saveEvery)
	}
}

// waitFor returns how long a write of so many bytes lasts of a day's.
func waitFor(cost int64) time.Duration {
	return min(time.Duration(float64(cost)/dayBytes*float64(24*time.Hour)), saveLatest)
}

// blocks returns the bytes of the blocks that n bytes after the first size of a file touch.
func blocks(size, n int64) int64 {
	if n == 0 {
		return 0
	}
	return ((size+n-1)/blockBytes - size/blockBytes + 1) * blockBytes
}

// save writes what is new. last says that the process ends, so that the steps that are not
// over are written too. It returns the bytes of the blocks that were written. Only Run calls
// it, and New before there is a Run.
func (h *Store) save(last bool) (cost int64, err error) {
	if !h.toDisk() {
		return 0, nil
	}
	defer func() {
		switch {
		case err != nil:
			h.o.Health.Raise(health.HistoryUnsaved, Subject, err.Error())
		case h.disk.opened:
			h.o.Health.Clear(health.HistoryUnsaved, Subject)
		}
		h.setUnsaved(err)
	}()
	if err := h.openFiles(); err != nil {
		return 0, err
	}
	now := h.o.Clock.Now()
	entries, saved := h.encode(now, last)
	if len(entries) == 0 {
		return 0, nil
	}
	cost, err = h.write(entries, now)
	if err != nil {
		h.disk.sound = false
		return cost, err
	}
	h.disk.number += uint64(len(entries))
	saved()
	return cost, nil
}

// write writes entries to the present file, or begins the other one.
func (h *Store) write(entries [][]byte, now clock.Stamp) (cost int64, err error) {
	d := &h.disk
	file := d.files[d.present]
	n := int64(0)
	for _, e := range entries {
		n += int64(len(e)) + 16
	}
	wall := now.Wall.Unix()
	old := d.began > 0 && now.Synced && wall-d.began > maxSpan
	switch {
	case file.Size() > maxFile || old:
		d.present = 1 - d.present
		d.began = 0
		err = d.files[d.present].Rewrite(slices.Values(entries))
		d.sound, cost = err == nil, blocks(0, n)
	case d.sound:
		cost = blocks(file.Size(), n)
		err = file.Append(entries...)
	default:
		cost, err = repair(file, entries)
		d.sound = err == nil
	}
	if err == nil && d.began == 0 && now.Synced {
		d.began = wall
	}
	return cost, err
}

// repair writes a file again, with all its entries that can be read and new ones.
func repair(file *journal.File, entries [][]byte) (cost int64, err error) {
	var all [][]byte
	size := int64(0)
	if _, err := file.Replay(func(e []byte) {
		all = append(all, bytes.Clone(e))
	}); err != nil {
		all = nil // it cannot be read, and need not keep the new ones from the disk
	}
	all = append(all, entries...)
	for _, e := range all {
		size += int64(len(e)) + 16
	}
	return blocks(0, size), file.Rewrite(slices.Values(all))
}

// openFiles finds out which file is the present one, and restores the history, unless that was
// done. If there are new points already, what is on disk is only restored by the next run.
func (h *Store) openFiles() error {
	d := &h.disk
	if d.opened {
		return nil
	}
	l := newLoading(h, h.o.Clock.Now())
	var found [2]fileState
	for i, file := range d.files {
		found[i] = l.scan(file)
	}
	if found[0].err != nil && found[1].err != nil {
		return errors.Join(found[0].err, found[1].err)
	}
	present := 1
	if found[0].number > found[1].number || found[1].err != nil {
		present = 0
	}
	if err := h.restore(l, d.files[1-present], d.files[present]); err != nil {
		h.o.Log.Debug("history is not restored", "err", err) // found has it too
	}
	strange := found[0].strange + found[1].strange
	d.opened, d.present, d.number, d.began = true, present, max(found[0].number, found[1].number), found[present].began
	d.sound = found[present].err == nil && d.files[present].Resume()
	if strange > 0 || l.lost > 0 || found[0].err != nil || found[1].err != nil {
		h.o.Log.Warn("part of the history is not restored", "damaged", strange, "without_time", l.lost, "err", errors.Join(found[0].err, found[1].err))
	}
	return nil
}

// restore restores the history from files, the older one first, unless there is a newer one
// already. That is only so where the files could not be read at the start.
func (h *Store) restore(l *loading, files ...*journal.File) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.series > 0 {
		return nil
	}
	var errs []error
	for _, file := range files {
		_, err := file.Replay(func(entry []byte) { l.take(entry) })
		errs = append(errs, err)
	}
	l.end()
	h.learnLocked(h.o.Clock.Now())
	return errors.Join(errs...)
}

// fileState is what a file has.
type fileState struct {
	number  uint64 // of its last entry
	began   int64  // the wall time of its first entry; 0: not known
	strange int    // places that are damaged, and entries of another version
	err     error
}

// scan reads a file for the first time, for the times of its boots.
func (l *loading) scan(file *journal.File) (s fileState) {
	first := true
	damage, err := file.Replay(func(entry []byte) {
		head, d, known := decodeHeader(entry)
		if !known {
			s.strange++
			return
		}
		l.learn(head)
		s.number = max(s.number, head.number)
		if r, ok := decodeSeries(&d); first && ok && head.synced {
			if p := decodePoint(&d, head.ring, r.weight, point{}); !d.Bad {
				s.began = int64(p.at) + head.shift
			}
		}
		first = false
	})
	s.strange += damage.Holes
	if damage.Tail > 0 {
		s.strange++
	}
	s.err = err
	return s
}

// encode makes entries of the points that are not on disk. saved is to be called when they
// are.
func (h *Store) encode(now clock.Stamp, last bool) (entries [][]byte, saved func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.learnLocked(now)
	ring := 1
	if h.series > fineMost {
		ring = 2
	}
	e := encoder{head: header{number: h.disk.number, boot: now.Boot, shift: max(h.shift, 0), synced: h.synced, ring: ring}}
	marks := map[*series]uint64{}
	for _, name := range slices.Sorted(maps.Keys(h.sensors)) {
		for _, s := range h.sensors[name].series {
			r := &s.rings[ring]
			marks[s] = r.added
			if all := r.unsaved(last); len(all) > 0 {
				e.add(name, s, r.weight, all)
			}
		}
	}
	e.end()
	return e.entries, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		for s, added := range marks {
			s.rings[ring].saved = added
			s.rings[len(tiers)-ring].saved = s.rings[len(tiers)-ring].added // stored by way of these
		}
	}
}

// unsaved returns the points that are not on disk; with open also the one whose step is not
// over.
func (r *ring) unsaved(open bool) (all []counted) {
	for i := max(r.saved, r.added-r.len()); i < r.added; i++ {
		if p := r.get(i); p.at < wallFirst {
			all = append(all, counted{p, r.weight})
		}
	}
	if open && r.open.filled && r.open.at < wallFirst {
		all = append(all, counted{r.open.point(), r.open.count})
	}
	return all
}

// encoder makes entries, none of them larger than it must be.
type encoder struct {
	head    header
	entries [][]byte
	b       []byte
}

func (e *encoder) add(sensor string, s *series, weight uint32, all []counted) {
	if len(e.b) > maxEntry {
		e.end()
	}
	if e.b == nil {
		e.head.number++
		e.b = e.head.append(nil)
	}
	e.b = appendSeries(e.b, sensor, s, e.head.ring, weight, all)
}

func (e *encoder) end() {
	if e.b != nil {
		e.entries, e.b = append(e.entries, e.b), nil
	}
}
