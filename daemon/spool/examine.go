package spool

import (
	"encoding/binary"
	"slices"

	"fieldpost/daemon/durable"
)

// examined is what one file turned out to hold.
type examined struct {
	last    []byte // the payload of its last record
	id      uint64 // behind its last record
	damaged bool
	end     int // behind its last frame
}

// segment reads one segment file. A file that may be torn is one that was
// being written when its run ended.
func (l *loader) segment(g *segment, torn bool) {
	if g.run == l.own.run {
		l.f.number[g.class] = max(l.f.number[g.class], g.number)
	}
	if l.notes.removed[fileKey{noteKey{g.class, g.run}, g.number}] { // as one before it stands for it
		l.f.empty = append(l.f.empty, g)
		return
	}
	if g.gone {
		l.tracks[g.class].damage(g.run)
		l.f.damaged = append(l.f.damaged, g.file()+": is missing")
		return
	}
	data, err := l.disk.Read(g.file(), maxFile+1)
	if err != nil {
		l.tracks[g.class].damage(g.run)
		l.damaged(g, err)
		return
	}
	x := l.examine(g, data, torn)
	l.next = x.id
	for _, j := range l.notes.joins[noteKey{g.class, g.run}] {
		if j.number == g.number && x.last != nil && x.id-1-g.off == j.seq {
			for _, n := range j.others {
				l.notes.removed[fileKey{noteKey{g.class, g.run}, n}] = true
			}
		}
	}
	if x.last != nil {
		g.stamp(nil, x.last)
	}
	if g.size = int64(x.end); x.damaged {
		g.size = int64(len(data))
		l.damaged(g, nil)
	}
	g.good, g.sure = g.size, g.hi
	switch {
	case g.live > 0:
		if torn {
			l.f.torn = append(l.f.torn, g)
		}
		l.given(g)
		l.f.segs[g.class] = append(l.f.segs[g.class], g)
		l.f.pending[g.class] += g.live
	case !g.bad:
		l.f.empty = append(l.f.empty, g)
	}
}

// given takes note of what of a segment an earlier run may have given out: what
// the last one noted when it stopped in good order, or else all.
func (l *loader) given(g *segment) {
	for _, sensor := range g.sensors() {
		k := givenKey{noteKey{g.class, g.run}, sensor, g.class == Events}
		seq, noted := l.notes.given[k]
		if !noted {
			seq, noted = l.notes.given[givenKey{k.noteKey, "", true}]
		}
		until := g.hi
		if noted && len(l.ended) == 0 {
			first := g.lo - g.off
			until = g.lo + min(max(seq, first)-first, g.hi-g.lo)
		}
		if until > g.lo {
			l.f.gave(g.class, sensor, until)
		}
	}
}

// sensors names the flows of which the segment has records.
func (g *segment) sensors() (out []string) {
	if g.class == Events {
		return []string{""}
	}
	for _, x := range g.sums {
		if !slices.Contains(out, x.sensor) {
			out = append(out, x.sensor)
		}
	}
	return out
}

// damaged takes note of a damaged file. What can be read of it is read; it is
// set aside when what cannot has been told.
func (l *loader) damaged(g *segment, err error) {
	g.bad = true
	what := g.file()
	if err != nil {
		what += ": " + err.Error()
	}
	l.f.damaged = append(l.f.damaged, what)
	l.f.bad = append(l.f.bad, g)
}

func (l *loader) examine(g *segment, data []byte, torn bool) examined {
	at, good := g.scan(data)
	x := examined{id: l.next, end: at.Pos()}
	damage := func() {
		x.damaged = true
		l.tracks[g.class].damage(g.run)
	}
	if !good && foreign(data) {
		damage()
		return x
	}
	holes := 0
	for at.Next() {
		h, ok := peek(at.Payload)
		if at.Holes > holes || !ok {
			holes = at.Holes
			damage()
		}
		if ok && !l.record(g, &x, at, h) {
			damage()
			return x
		}
		x.end = at.Pos()
	}
	cut := at.Seq < l.notes.files[fileKey{noteKey{g.class, g.run}, g.number}] // what was on disk is not there
	switch {
	case at.Tail > 0 && !torn, !good && !torn, cut:
		damage()
	case !good && x.last != nil:
		x.damaged = true // only the header was hit
	}
	return x
}

// stale reports whether a frame was written anew elsewhere since, or is done, as
// this run has had the directory before.
func (l *loader) stale(g *segment, seq uint64) bool {
	if !l.f.ours {
		return false
	}
	wanted := l.own.wanted[noteKey{g.class, g.run}]
	return wanted == nil || !wanted.has(seq)
}

// record takes in one record of a segment; false means that its number cannot
// be one of ours.
func (l *loader) record(g *segment, x *examined, at *durable.Scanner, h head) bool {
	if x.last == nil {
		g.off, g.lo = l.next-at.Seq, l.next
		g.stamp(at.Payload, at.Payload)
	}
	id := g.off + at.Seq
	if id >= l.own.room.hi {
		return false
	}
	done := &l.f.done[g.class]
	done.add(x.id, id) // what lies between is in no file
	if acks := l.notes.done[noteKey{g.class, g.run}]; acks != nil && acks.has(at.Seq) || l.stale(g, at.Seq) {
		done.add(id, id+1)
	} else {
		g.live++
		if h.gap() {
			l.f.gaps[id] = &owedGap{run: g.run, seq: at.Seq, payload: slices.Clone(at.Payload)}
		}
	}
	if h.gap() {
		l.told[frameKey{g.run, at.Seq}] = true
	}
	x.id, g.hi, x.last = id+1, id+1, at.Payload
	sensor, known := l.names[string(h.sensor)]
	if !known {
		sensor = string(h.sensor)
		l.names[sensor] = sensor
	}
	g.note(sensor, h.run, h.seq, durable.FrameLen(at.Payload))
	g.frames++
	if h.seq > 0 && sensor != "" {
		l.tracks[g.class].record(origin{sensor, h.run}, h.seq)
	}
	return true
}

// foreign reports whether data is a whole segment, only not the one that its
// name says.
func foreign(data []byte) bool {
	if len(data) < headerSize {
		return false
	}
	g := segment{
		class:  Class(data[8]),
		number: binary.LittleEndian.Uint32(data[12:]),
		run:    binary.LittleEndian.Uint64(data[16:]),
	}
	return string(g.header()) == string(data[:headerSize])
}
