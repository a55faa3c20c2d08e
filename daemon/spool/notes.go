package spool

import (
	"fmt"

	"fieldpost/daemon/durable"
)

// The file "acks" says which records need not be sent again, and how far each
// sensor had come in the present run. It has frames as a segment has, their
// seq counting the frames. It is only appended to, and written anew when it has
// grown. Acks are not synced: losing its end costs repeats, never records.
//
//	'd'  lane byte, run, then pairs, all uvarints: seqs of that run are done. A pair is a span: how far behind the end
//	     of the one before it begins, the first behind 0, and how many seqs it has
//	'a'  lane byte, run, lo and hi as uvarints: the seqs from lo up to, not including, hi are done; no longer written
//	'm'  lane byte, run, seq as uvarints, sensor string: everything of the sensor up to its own count seq is safe
//	'c'  lane byte, run as uvarint, sensor string: the sensor is configured, and may have had records in no lane
//	'f'  lane byte, run, number, seq as uvarints: the segment of that run and number is on disk up to its frame seq;
//	     the latest says it, as a segment can be written anew with less
//	'r'  lane byte, run, number as uvarints: that segment is removed, nothing needs it
//	'x'  lane byte, run, number, seq, numbers as uvarints: where that segment ends with its frame seq it holds what is
//	     owed of those too, which nothing needs then
//	'w'  zero byte, lo and hi as uvarints, spool's id and thing's name as strings: who took what the runs from lo to hi have here
//	't'  two zero bytes, then such payloads as strings: these are true together
//	'g'  lane byte, run, seq as uvarints, payload: that frame is this gap, and the broker does not have it
//	'h'  lane byte, run, seq as uvarints, sensor string: of that run's frames of the sensor Next has given those
//	     before seq, in whichever run; true when the latest run has stopped in good order. Without a sensor, as of
//	     the events, it is true of all the lane's
//
// In a file written anew what is done comes last, as much of it as there is room
// for, so that what is appended is read as well.
const (
	notesName = "acks"
	notesMax  = segmentSize  // it is not written anew before it has this size, or a 16th of MaxBytes
	maxNotes  = 64 << 20     // as much of it is read
	doneRoom  = maxNotes / 2 // what is done is noted up to here
)

// noteKey names the records of one run in one lane.
type noteKey struct {
	class Class
	run   uint64
}

// mark says how far a sensor had come.
type mark struct {
	in  [classes]bool // in which lanes it has had records
	seq uint64        // everything up to here is acknowledged, on disk, or reported as a gap
}

// fileKey names a segment.
type fileKey struct {
	noteKey
	number uint32
}

// notes is what the file holds.
type notes struct {
	files   map[fileKey]uint64 // the last frame of each
	removed map[fileKey]bool
	joins   map[noteKey][]join
	done    map[noteKey]*ids
	marks   map[uint64]map[string]mark // by run and sensor
	gaps    map[frameKey][]byte        // share the file's bytes
	given   map[givenKey]uint64        // behind the last seq that was given out
	sources tenures
}

// join says that a segment, where it ends with a frame, stands for others too.
type join struct {
	number uint32
	seq    uint64
	others []uint32
}

// givenKey names the records of one sensor and run in one lane, or those of all
// sensors.
type givenKey struct {
	noteKey
	sensor string
	all    bool
}

// readNotes reads the file's bytes. What it cannot read it passes over.
func readNotes(data []byte) notes {
	n := notes{
		files: map[fileKey]uint64{}, removed: map[fileKey]bool{}, joins: map[noteKey][]join{}, done: map[noteKey]*ids{},
		marks: map[uint64]map[string]mark{}, gaps: map[frameKey][]byte{},
		given: map[givenKey]uint64{},
	}
	s := durable.Scan(data, 0)
	for s.Next() {
		n.read(s.Payload)
	}
	return n
}

func (n *notes) read(payload []byte) {
	d := durable.Decoder{B: payload}
	what, class, run := d.Byte(), Class(d.Byte()), d.Uvarint()
	if d.Bad || class >= classes {
		return
	}
	k := noteKey{class, run}
	switch what {
	case 'a', 'd':
		n.readDone(&d, what, k)
	case 'f', 'r', 'x':
		n.readFile(&d, what, k)
	case 'm':
		seq, sensor := d.Uvarint(), d.String()
		if !d.Bad {
			var in [classes]bool
			in[class] = true
			n.sensor(run, sensor, in, seq)
		}
	case 'c':
		if sensor := d.String(); !d.Bad {
			n.sensor(run, sensor, [classes]bool{}, 0)
		}
	case 't':
		for len(d.B) > 0 && !d.Bad {
			if inner := d.Bytes(); len(inner) > 0 && inner[0] != 't' {
				n.read(inner)
			}
		}
	case 'g':
		if seq := d.Uvarint(); !d.Bad {
			n.gaps[frameKey{run, seq}] = d.B
		}
	case 'w':
		t := tenure{run, d.Uvarint(), Source{Spool: d.String(), Thing: d.String()}}
		if !d.Bad {
			n.sources = append(n.sources, t)
		}
	case 'h':
		seq, of := d.Uvarint(), givenKey{k, "", true}
		if len(d.B) > 0 {
			of.sensor, of.all = d.String(), false
		}
		if !d.Bad {
			n.given[of] = seq
		}
	}
}

// readDone reads which seqs of a run are done.
func (n *notes) readDone(d *durable.Decoder, what byte, k noteKey) {
	if what == 'a' {
		if lo, hi := d.Uvarint(), d.Uvarint(); !d.Bad {
			n.spans(k).add(lo, hi)
		}
		return
	}
	done := n.spans(k)
	for lo, hi := uint64(0), uint64(0); len(d.B) > 0; {
		lo = hi + d.Uvarint()
		if hi = lo + d.Uvarint(); d.Bad {
			return
		}
		done.add(lo, hi)
	}
}

// readFile reads what is said of segments: how far one is on disk, that it is
// gone, or that it is what others have become.
func (n *notes) readFile(d *durable.Decoder, what byte, k noteKey) {
	number := uint32(d.Uvarint())
	file := fileKey{k, number}
	switch what {
	case 'f':
		if seq := d.Uvarint(); !d.Bad {
			n.files[file] = seq
		}
	case 'r':
		if !d.Bad {
			n.removed[file] = true
		}
	case 'x':
		j := join{number: number, seq: d.Uvarint()}
		for len(d.B) > 0 && !d.Bad {
			j.others = append(j.others, uint32(d.Uvarint()))
		}
		if !d.Bad {
			n.joins[k] = append(n.joins[k], j)
		}
	}
}

// spans gives the seqs of a run that are done.
func (n *notes) spans(k noteKey) *ids {
	if n.done[k] == nil {
		n.done[k] = &ids{}
	}
	return n.done[k]
}

// sensor takes note of a sensor's lanes, and of the count up to which it is
// safe.
func (n *notes) sensor(run uint64, sensor string, in [classes]bool, seq uint64) {
	if n.marks[run] == nil {
		n.marks[run] = map[string]mark{}
	}
	m := n.marks[run][sensor]
	for i, has := range in {
		m.in[i] = m.in[i] || has
	}
	m.seq = max(m.seq, seq)
	n.marks[run][sensor] = m
}

// scribe writes the file. Only the writer uses it.
type scribe struct {
	disk  disk
	least int64        // until it has this size it is not worth a rewrite
	file  durable.File // nil before the first rewrite and after an error
	size  int64
	floor int64 // the size after the last rewrite
	seq   uint64
}

// grown reports whether the file is worth a rewrite.
func (w *scribe) grown() bool { return w.size > max(w.least, min(2*w.floor, maxNotes/4*3)) }

// append adds what fill collects to the end of the file. After an error only
// rewrite helps, and nothing of it is to be found by the next run: what it says
// to be given up may not be.
func (w *scribe) append(fill func(*frames), sync bool) error {
	f := frames{seq: w.seq}
	fill(&f)
	f.flush()
	if len(f.b) == 0 {
		return nil
	}
	n, err := w.file.Write(f.b)
	w.size += int64(n)
	if err == nil && sync {
		err = w.file.Datasync()
		if err == nil {
			err = w.file.There()
		}
	}
	if err != nil {
		w.close()
		w.size -= int64(n)
		_ = w.disk.Truncate(notesName, w.size) // the first error is the one to tell
		return fmt.Errorf("write %q: %w", notesName, err)
	}
	w.seq = f.seq
	return nil
}

// rewrite durably puts what fill collects in the file's place.
func (w *scribe) rewrite(fill func(*frames)) error {
	w.close()
	var f frames
	fill(&f)
	f.flush()
	if err := durable.Replace(w.disk, notesName, f.b); err != nil {
		return err
	}
	file, err := w.disk.Append(notesName)
	if err != nil {
		return fmt.Errorf("open %q: %w", notesName, err)
	}
	w.file, w.size, w.floor, w.seq = file, int64(len(f.b)), int64(len(f.b)), f.seq
	return nil
}

func (w *scribe) close() {
	if w.file != nil {
		_ = w.file.Close() // nothing in it is owed
		w.file = nil
	}
}
