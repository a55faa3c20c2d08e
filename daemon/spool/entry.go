package spool

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"sync/atomic"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/durable"
)

// Class selects the log that stores an entry. Its number is part of the file format.
type Class int

// The classes.
const (
	Events  Class = iota // answers, faults, gaps: sent first, but the others keep a share
	Samples              // readings
	Edges                // changes of a line
	classes
)

var classNames = [classes]string{"events", "samples", "edges"}

// Entry is bytes, and what the spool must know about them to keep their order, to drop
// them fairly, and to report which are missing.
type Entry struct {
	Class  Class
	Sensor string      // the sensor of the entry: sensors take turns and have shares; "" is none
	Run    uint64      // the run that took it; 0 with Seq 0
	Seq    uint64      // the sensor's own count in that run, from 1; 0 if it has no count
	Stamp  clock.Stamp // when it happened; its age is computed from this
	Body   []byte      // the content; the spool does not look into it
}

// Item is an entry or a gap to be sent.
type Item struct {
	ID     uint64 // identifies the item for Ack, Refuse and Corrupt; unique in this run
	Entry         // a gap has no Body and no Seq; do not change Body
	Gap    *Gap   // nil if the item is an entry
	Source Source // who took the entry, or the entries that the gap covers
}

// itemID returns the id of an item: an id of a log, combined with its class.
func itemID(c Class, id uint64) uint64 { return id*uint64(classes) + uint64(c) }

// splitItemID is the inverse of itemID.
func splitItemID(item uint64) (Class, uint64) {
	return Class(item % uint64(classes)), item / uint64(classes)
}

// Source says who took an entry. An entry keeps its source, even if the configuration has
// changed when it is sent.
type Source struct {
	Thing string // the thing's name in the configuration of that run
	Spool string // the id of that run's spool; "" if it is not known
}

// The reasons of gaps.
const (
	reasonFull    = "spool_full" // dropped to keep within MaxBytes or Memory
	reasonOld     = "too_old"    // dropped because of MaxAge
	reasonCrash   = "crash"      // not written before a kill or a power cut
	reasonDamaged = "damaged"    // could not be read back
	reasonRefused = "refused"    // set aside because the broker will not accept it
)

// Gap reports entries that were or may have been lost. It covers either the counts of a
// sensor in a run, from First to Last, or Count entries of a run that have no count.
type Gap struct {
	Reason    string
	First     uint64 // the first missing count, from 1; 0 in a gap with Count
	Last      uint64 // the last missing count; 0 if unknown
	Uncertain bool   // the entries may have arrived after all
	Count     int64  // the number of entries without a count; 0 in a gap with First
}

// loss returns what a gap covers; its lo is 0 if the gap covers no counts.
func (g Gap) loss() loss {
	return loss{lo: g.First, hi: g.Last, open: g.Last == 0, uncertain: g.Uncertain}
}

// The form of an entry in a frame. Unsigned numbers are uvarints, signed numbers are
// varints, strings are a length and their bytes.
//
//	form     1 byte: formBits, and flags
//	sensor   string
//	run      unsigned
//	seq      unsigned
//	boot     16 bytes where flagUUID is set, otherwise a string
//	mono     signed, nanoseconds
//	wall     signed seconds since 1970 and unsigned nanoseconds; absent with flagNoWall
//
// An entry continues with its body, a gap with
//
//	reason   string
//	first    unsigned
//	last     unsigned
//	count    signed
//	certain  1 byte: 0 if it is uncertain
const (
	flagSynced = 1 << iota
	flagUUID
	flagNoWall
	flagGap
	flagMask = 1<<iota - 1

	formBits = 0x80 // the bits that are not flags; with any other value it is not an entry
)

// errForm is the error when the payload of a frame is not an entry.
var errForm = errors.New("not an entry")

// appendEntry appends the form of an entry to b.
func appendEntry(b []byte, e Entry) []byte {
	return append(appendHead(b, 0, e), e.Body...)
}

// appendGap appends the form of a gap to b; e has its sensor, run and time.
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

// decodeEntry decodes an entry or a gap of a class. The body of the entry shares the
// memory of b. Damaged bytes cause [errForm], never a panic.
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

// head is the part of an entry that can be read without decoding all of it.
type head struct {
	flags    byte
	sensor   []byte // shares the memory of the entry's form
	run, seq uint64
}

func (h head) gap() bool { return h.flags&flagGap != 0 }

// peek decodes the head of an entry. It allocates nothing. ok is false if the bytes are no
// entry.
func peek(b []byte) (h head, ok bool) {
	d := decoder{durable.Decoder{B: b}}
	h = d.head()
	return h, !d.Bad
}

// stampOf decodes the stamp of an entry.
func stampOf(b []byte) (clock.Stamp, bool) {
	d := decoder{durable.Decoder{B: b}}
	s := d.stamp(d.head().flags)
	return s, !d.Bad
}

// decoder decodes the parts of an entry, from the front of its form.
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

// parseUUID parses a boot id as the kernel writes it: 8-4-4-4-12 lower-case hexadecimal
// digits.
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

// formatUUID is the inverse of parseUUID. It returns "" unless b has 16 bytes.
func formatUUID(b []byte) string {
	if len(b) != 16 {
		return ""
	}
	id := [16]byte(b)
	if x := latestUUID.Load(); x != nil && x.id == id {
		return x.text
	}
	text := uuidText(id)
	x := &knownUUID{id, string(text[:])}
	latestUUID.Store(x)
	return x.text
}

// latestUUID caches the latest result of formatUUID, because nearly all entries are of one
// boot.
var latestUUID atomic.Pointer[knownUUID]

type knownUUID struct {
	id   [16]byte
	text string
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
