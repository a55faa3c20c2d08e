package spool

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/durable"
)

// Class says which log an entry is kept in. Its number is in the files.
type Class int

// The classes.
const (
	Events  Class = iota // go out first, but leave the others a share; gaps are among them
	Samples              // readings
	Edges                // changes of a line
	classes
)

var classNames = [classes]string{"events", "samples", "edges"}

// Entry is what the spool keeps: bytes, and what it must know of them to keep their
// order, to drop them fairly, and to tell which are missing.
type Entry struct {
	Class  Class
	Sensor string      // whose it is: what takes turns and has a share; "" is nobody's
	Run    uint64      // the run that took it; 0 with Seq 0
	Seq    uint64      // the sensor's own count in that run, from 1; 0 where nobody counts
	Stamp  clock.Stamp // when it happened; ages are told by it
	Body   []byte      // what it says; the spool does not look into it
}

// Item is an entry, or a gap, on its way out.
type Item struct {
	ID     uint64 // names the item for Ack, Refuse and Corrupt; unique in this run
	Entry         // of a gap without Body and Seq; Body is not to be changed
	Gap    *Gap   // nil where the item is an entry
	Source Source // who took the entry, or what the gap tells of
}

// itemID returns the number under which an id of a class is known outside.
func itemID(c Class, id uint64) uint64 { return id*uint64(classes) + uint64(c) }

// splitItemID is the inverse of itemID.
func splitItemID(item uint64) (Class, uint64) {
	return Class(item % uint64(classes)), item / uint64(classes)
}

// Source says who took an entry: it keeps that for good, whatever the
// configuration says when it is sent.
type Source struct {
	Thing string // the thing's name in the configuration of that run
	Spool string // the id of that run's spool; "" where that is not known
}

// The reasons of gaps.
const (
	reasonFull    = "spool_full" // dropped to keep within MaxBytes or Memory
	reasonOld     = "too_old"    // dropped because of MaxAge
	reasonCrash   = "crash"      // not written when the daemon was killed or the power cut
	reasonDamaged = "damaged"    // could not be read back
	reasonRefused = "refused"    // set aside because the broker will not take it
)

// Gap tells of entries that were or may have been lost. It is either about a
// sensor's counts in a run, from First to Last, or about Count entries of a run
// that nobody counts.
type Gap struct {
	Reason    string
	First     uint64 // the first count that is missing, from 1; 0 in a gap that has Count
	Last      uint64 // the last one; 0 where that is not known
	Uncertain bool   // they may not be missing after all
	Count     int64  // how many entries without a count; 0 in a gap that has First
}

// loss is what a gap says is missing; its lo is 0 where it is about no counts.
func (g Gap) loss() loss {
	return loss{lo: g.First, hi: g.Last, open: g.Last == 0, uncertain: g.Uncertain}
}

// The form of an entry in a frame. Unsigned numbers are uvarints, signed ones
// varints, strings a length and their bytes.
//
//	form     1 byte: formBits, and flags
//	sensor   string
//	run      unsigned
//	seq      unsigned
//	boot     16 bytes where flagUUID is set, otherwise a string
//	mono     signed, nanoseconds
//	wall     signed seconds since 1970 and unsigned nanoseconds; absent with flagNoWall
//
// Behind it an entry has its body, and a gap
//
//	reason   string
//	first    unsigned
//	last     unsigned
//	count    signed
//	certain  1 byte: 0 where it is not
const (
	flagSynced = 1 << iota
	flagUUID
	flagNoWall
	flagGap
	flagMask = 1<<iota - 1

	formBits = 0x80 // what is no flag: anything else is no entry
)

// errForm is the reason when the bytes of a frame are not an entry.
var errForm = errors.New("not an entry")

// appendEntry appends an entry's form to b.
func appendEntry(b []byte, e Entry) []byte {
	return append(appendHead(b, 0, e), e.Body...)
}

// appendGap appends the form of a gap of that sensor, run and time to b.
func appendGap(b []byte, e Entry, g Gap) []byte {
	b = appendHead(b, flagGap, e)
	b = durable.AppendString(b, g.Reason)
	b = binary.AppendUvarint(b, g.First)
	b = binary.AppendUvarint(b, g.Last)
	b = binary.AppendVarint(b, g.Count)
	if g.Uncertain {
		return append(b, 0)
	}
	return append(b, 1)
}

func appendHead(b []byte, flags byte, e Entry) []byte {
	if e.Stamp.Synced {
		flags |= flagSynced
	}
	boot, isUUID := parseUUID(e.Stamp.Boot)
	if isUUID {
		flags |= flagUUID
	}
	if e.Stamp.Wall.IsZero() {
		flags |= flagNoWall
	}
	b = append(b, formBits|flags)
	b = durable.AppendString(b, e.Sensor)
	b = binary.AppendUvarint(b, e.Run)
	b = binary.AppendUvarint(b, e.Seq)
	if isUUID {
		b = append(b, boot[:]...)
	} else {
		b = durable.AppendString(b, e.Stamp.Boot)
	}
	b = binary.AppendVarint(b, int64(e.Stamp.Mono))
	if flags&flagNoWall == 0 {
		b = binary.AppendVarint(b, e.Stamp.Wall.Unix())
		b = binary.AppendUvarint(b, uint64(e.Stamp.Wall.Nanosecond()))
	}
	return b
}

// decodeEntry reads an entry or a gap of a class. The entry's body shares the
// memory of b. Damaged bytes give [errForm], never a panic.
func decodeEntry(class Class, b []byte) (Entry, *Gap, error) {
	d := decoder{durable.Decoder{B: b}}
	h := d.head()
	e := Entry{Class: class, Sensor: string(h.sensor), Run: h.run, Seq: h.seq, Stamp: d.stamp(h.flags)}
	if d.Bad {
		return Entry{}, nil, errForm
	}
	if !h.gap() {
		e.Body = d.B[:len(d.B):len(d.B)]
		return e, nil, nil
	}
	g := &Gap{Reason: d.String(), First: d.Uvarint(), Last: d.Uvarint(), Count: d.Varint(), Uncertain: d.Byte() == 0}
	if d.Bad || len(d.B) > 0 {
		return Entry{}, nil, errForm
	}
	return e, g, nil
}

// head is what can be read of an entry without decoding all of it.
type head struct {
	flags    byte
	sensor   []byte // shares the memory of the entry's form
	run, seq uint64
}

func (h head) gap() bool { return h.flags&flagGap != 0 }

// peek reads the head of an entry's form; it allocates nothing. ok is false where
// there is none.
func peek(b []byte) (h head, ok bool) {
	d := decoder{durable.Decoder{B: b}}
	h = d.head()
	return h, !d.Bad
}

// stampOf reads when an entry happened.
func stampOf(b []byte) (clock.Stamp, bool) {
	d := decoder{durable.Decoder{B: b}}
	s := d.stamp(d.head().flags)
	return s, !d.Bad
}

// decoder takes the parts of an entry off the front of its form.
type decoder struct{ durable.Decoder }

func (d *decoder) head() head {
	form := d.Byte()
	if form&^flagMask != formBits {
		d.Bad = true
	}
	return head{form & flagMask, d.Bytes(), d.Uvarint(), d.Uvarint()}
}

func (d *decoder) stamp(flags byte) clock.Stamp {
	s := clock.Stamp{Synced: flags&flagSynced != 0}
	if flags&flagUUID != 0 {
		s.Boot = formatUUID(d.Take(16))
	} else {
		s.Boot = d.String()
	}
	s.Mono = time.Duration(d.Varint())
	if flags&flagNoWall == 0 {
		sec, nsec := d.Varint(), d.Uvarint()
		if nsec >= 1e9 {
			d.Bad = true
			return s
		}
		s.Wall = time.Unix(sec, int64(nsec)).UTC()
	}
	return s
}

// parseUUID reads the form of the kernel's boot id,
// 8-4-4-4-12 lower-case hexadecimal digits.
func parseUUID(s string) (id [16]byte, ok bool) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return id, false
	}
	n := 0
	for _, part := range [...]string{s[:8], s[9:13], s[14:18], s[19:23], s[24:]} {
		m, err := hex.Decode(id[n:], []byte(part))
		if err != nil {
			return id, false
		}
		n += m
	}
	text := uuidText(id)
	return id, string(text[:]) == s
}

// formatUUID is the inverse of parseUUID; "" where b has not 16 bytes.
func formatUUID(b []byte) string {
	if len(b) != 16 {
		return ""
	}
	text := uuidText([16]byte(b))
	return string(text[:])
}

func uuidText(id [16]byte) (text [36]byte) {
	n := 0
	for i := range id {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			text[n] = '-'
			n++
		}
		n += hex.Encode(text[n:], id[i:i+1])
	}
	return text
}
