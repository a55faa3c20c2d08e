package spool

import (
	"encoding/binary"

	"fieldpost/daemon/durable"
)

// frames collects frames for the file.
type frames struct {
	b      []byte
	seq    uint64 // of the last frame
	inner  []byte // what goes into one frame together
	within bool
	spans  spans // not added yet
}

// spans is a note of spans that is being made.
type spans struct {
	key  noteKey
	b    []byte // empty where there is none
	end  uint64 // of the latest span in b
	last span   // behind that
}

// spansMax is how large such a note grows: damage to it costs that many repeats.
const spansMax = 4 << 10

// together puts all that fill adds into one frame, where it fits into one.
func (f *frames) together(fill func()) {
	f.flush()
	f.inner, f.within = []byte{'t', 0, 0}, true
	fill()
	f.flush()
	f.within = false
	if len(f.inner) > 3 {
		f.put(f.inner)
	}
}

func (f *frames) add(payload []byte) {
	f.flush()
	f.put(payload)
}

func (f *frames) put(payload []byte) {
	if f.within && len(f.inner)+len(payload)+binary.MaxVarintLen64 <= durable.MaxPayload {
		f.inner = durable.AppendString(f.inner, string(payload))
		return
	}
	f.seq++
	f.b = durable.AppendFrame(f.b, f.seq, payload)
}

// done says that the seqs of x are done. What comes in ascending order goes into
// one note.
func (f *frames) done(k noteKey, x span) {
	p := &f.spans
	switch here := len(p.b) > 0 && p.key == k && p.last.hi <= x.lo; {
	case here && p.last.hi == x.lo:
		p.last.hi = x.hi
		return
	case here && len(p.b) < spansMax:
		p.push()
	default:
		f.flush()
		p.key, p.end = k, 0
		p.b = binary.AppendUvarint(append(p.b, 'd', byte(k.class)), k.run)
	}
	p.last = x
}

func (p *spans) push() {
	p.b = binary.AppendUvarint(p.b, p.last.lo-p.end)
	p.b = binary.AppendUvarint(p.b, p.last.hi-p.last.lo)
	p.end = p.last.hi
}

// flush adds the spans that are not added yet.
func (f *frames) flush() {
	if p := &f.spans; len(p.b) > 0 {
		p.push()
		f.put(p.b)
		p.b = p.b[:0]
	}
}

// mark says how far a sensor is safe.
func (f *frames) mark(k noteKey, sensor string, seq uint64) {
	p := append(make([]byte, 0, 40), 'm', byte(k.class))
	p = binary.AppendUvarint(p, k.run)
	p = binary.AppendUvarint(p, seq)
	f.add(durable.AppendString(p, sensor))
}

// sensor says that there is a sensor of which nothing else need be known.
func (f *frames) sensor(run uint64, sensor string) {
	p := append(make([]byte, 0, 40), 'c', 0)
	p = binary.AppendUvarint(p, run)
	f.add(durable.AppendString(p, sensor))
}

// file says how far a segment is on disk, where it is at all.
func (f *frames) file(g *segment) {
	if !g.bad && g.sure > g.lo {
		f.fileUntil(g, g.sure-1-g.off)
	}
}

// fileUntil says that a segment is on disk up to a frame, whatever was said
// before.
func (f *frames) fileUntil(g *segment, seq uint64) {
	p := append(make([]byte, 0, 40), 'f', byte(g.class))
	p = binary.AppendUvarint(p, g.run)
	p = binary.AppendUvarint(p, uint64(g.number))
	f.add(binary.AppendUvarint(p, seq))
}

// joined says that the first segment of a group, where it ends with that frame,
// stands for the others too.
func (f *frames) joined(group []*segment, seq uint64) {
	p := append(make([]byte, 0, 40), 'x', byte(group[0].class))
	p = binary.AppendUvarint(p, group[0].run)
	p = binary.AppendUvarint(p, uint64(group[0].number))
	p = binary.AppendUvarint(p, seq)
	for _, g := range group[1:] {
		p = binary.AppendUvarint(p, uint64(g.number))
	}
	f.add(p)
}

// removed says that a segment's file is gone.
func (f *frames) removed(g *segment) {
	p := append(make([]byte, 0, 40), 'r', byte(g.class))
	p = binary.AppendUvarint(p, g.run)
	f.add(binary.AppendUvarint(p, uint64(g.number)))
}

// gap keeps a gap's record.
func (f *frames) gap(k frameKey, payload []byte) {
	p := append(make([]byte, 0, 40+len(payload)), 'g', byte(Events))
	p = binary.AppendUvarint(p, k.run)
	p = binary.AppendUvarint(p, k.seq)
	f.add(append(p, payload...))
}

// took says who took the records of some runs.
func (f *frames) took(t tenure) {
	p := append(make([]byte, 0, 60), 'w', 0)
	p = binary.AppendUvarint(p, t.lo)
	p = binary.AppendUvarint(p, t.hi)
	f.add(durable.AppendString(durable.AppendString(p, t.Spool), t.Thing))
}

// handed says how far a run's records of a flow have been given out.
func (f *frames) handed(k noteKey, sensor string, seq uint64) {
	p := append(make([]byte, 0, 40), 'h', byte(k.class))
	p = binary.AppendUvarint(p, k.run)
	p = binary.AppendUvarint(p, seq)
	if k.class != Events {
		p = durable.AppendString(p, sensor)
	}
	f.add(p)
}
