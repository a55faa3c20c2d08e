package spool

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"fieldpost/daemon/durable"
)

// seal makes durable what a killed run had written and not synced, and cuts
// off what is no record, so that the next run need not wonder about it.
func (s *Spool) seal() error {
	for _, g := range s.w.torn {
		if err := s.sealOne(g); err != nil {
			return fmt.Errorf("seal segment %q: %w", g.file(), err)
		}
	}
	s.w.torn = nil
	return nil
}

func (s *Spool) sealOne(g *segment) error {
	s.mu.Lock()
	gone := !slices.Contains(s.logs[g.class].segs, g)
	s.mu.Unlock()
	if gone {
		return nil
	}
	if !g.bad {
		if err := s.disk.Truncate(g.file(), g.good); err != nil {
			return err
		}
	}
	f, err := s.disk.Append(g.file())
	if err != nil {
		return err
	}
	if err := cmp.Or(f.Sync(), f.Close()); err != nil {
		return err
	}
	return s.disk.Sync()
}

// mend puts files with their good records in the place of those that were
// found damaged, and sets the damaged ones aside. The gaps that tell what is
// missing are on disk by now.
func (s *Spool) mend() error {
	for _, g := range s.w.mend {
		if err := s.mendOne(g); err != nil {
			return fmt.Errorf("mend segment %q: %w", g.file(), err)
		}
	}
	s.w.mend = nil
	return nil
}

func (s *Spool) mendOne(g *segment) error {
	data, err := s.disk.Read(g.file(), maxFile)
	if err != nil {
		return nil // Next deals with what it cannot read
	}
	out, sure := s.salvage(g, data)
	if sure == 0 {
		return nil // the writer sets it aside
	}
	tmp := g.file() + durable.TmpExt
	if err := durable.WriteNew(s.disk, tmp, out); err != nil {
		return err
	}
	// Between these two a crash leaves the new file under its first name only;
	// the next load finds it there.
	if err := s.disk.Rename(g.file(), g.file()+damagedExt); err != nil {
		return err
	}
	if err := s.disk.Rename(tmp, g.file()); err != nil {
		return err
	}
	s.mu.Lock()
	g.bad, g.size, g.good, g.sure = false, int64(len(out)), int64(len(out)), sure
	s.mu.Unlock()
	s.prune()
	return s.disk.Sync()
}

// salvage gives a segment file with the records of g that are in data and
// still needed, and what is behind the last one's id, 0 where there is none.
func (s *Spool) salvage(g *segment, data []byte) (out []byte, sure uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out = g.header()
	keep := s.keeping(g.class)
	at := durable.Scan(data, headerSize)
	for at.Next() {
		if id := g.off + at.Seq; id >= g.lo && id < g.hi && (s.logs[g.class].owed(id) || keep.has(id)) {
			out = durable.AppendFrame(out, at.Seq, at.Payload)
			sure = id + 1
		}
	}
	if !slices.Contains(s.logs[g.class].segs, g) {
		return nil, 0
	}
	return out, sure
}

// setAside renames a damaged file.
func (s *Spool) setAside(name string) error {
	if err := s.disk.Rename(name, name+damagedExt); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.prune()
	return nil
}

// prune removes the oldest damaged files beyond an eighth of MaxBytes. It is
// housekeeping: what cannot be removed now may be the next time.
func (s *Spool) prune() {
	names, err := s.disk.List()
	if err != nil {
		return
	}
	var old []*segment
	for _, name := range names {
		if body, ok := strings.CutSuffix(name, damagedExt); ok {
			if g, ok := parseSegment(body); ok {
				g.size, _ = s.disk.Size(name)
				old = append(old, g)
			}
		}
	}
	slices.SortFunc(old, func(a, b *segment) int {
		return cmp.Or(cmp.Compare(b.run, a.run), cmp.Compare(b.number, a.number))
	})
	var sum int64
	for _, g := range old {
		if sum += g.size; sum > s.o.MaxBytes/8 {
			_ = s.disk.Remove(g.file() + damagedExt)
		}
	}
}
