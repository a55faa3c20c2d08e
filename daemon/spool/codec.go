package spool

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/sensors"
)

// The binary form of a record, version 1. Counts and unsigned numbers are
// uvarints, signed ones varints, strings a length and their bytes.
//
//	version  1 byte
//	kind     string
//	sensor   string
//	run      unsigned
//	seq      unsigned
//	flags    1 byte, see below
//	boot     16 bytes where flagUUID is set, otherwise a string
//	mono     signed, nanoseconds
//	wall     signed seconds since 1970 and unsigned nanoseconds; absent with flagNoWall
//	fields   a count, then each: name string, type byte, value
//
// A field's value is 8 bytes little-endian IEEE 754 for 'f', signed for 'i', a
// string for 's', nothing for 't' (true) and 'n' (false).
const codecVersion = 1

const (
	flagSynced = 1 << iota
	flagUUID
	flagNoWall
)

// maxPayload bounds a record's binary form; it is also the most that AWS IoT
// Core takes in one message ("AWS IoT Core message broker and protocol limits
// and quotas").
const maxPayload = 128 << 10

// errPayload is the reason when bytes are not a record.
var errPayload = errors.New("not a record")

// reserved are the keys that [Encode] writes itself.
var reserved = []string{"thing", "kind", "sensor", "spool", "run", "seq", "time", "clock"}

// appendRecord appends r's binary form to b. An error says why r cannot be
// kept.
func appendRecord(b []byte, r Record) ([]byte, error) {
	start := len(b)
	if r.Kind == "" {
		return b, errors.New("record has no kind")
	}
	b = append(b, codecVersion)
	b = appendString(b, string(r.Kind))
	b = appendString(b, r.Sensor)
	b = binary.AppendUvarint(b, r.Run)
	b = binary.AppendUvarint(b, r.Seq)
	b = appendStamp(b, r.Stamp)
	b = binary.AppendUvarint(b, uint64(len(r.Fields)))
	for i, f := range r.Fields {
		if f.Name == "" || slices.Contains(reserved, f.Name) {
			return b[:start], fmt.Errorf("field %d of a record may not be named %q", i, f.Name)
		}
		var err error
		if b, err = appendField(b, f); err != nil {
			return b[:start], err
		}
	}
	if n := len(b) - start; n > maxPayload {
		return b[:start], fmt.Errorf("record of %d bytes is larger than %d", n, maxPayload)
	}
	return b, nil
}

func appendStamp(b []byte, s clock.Stamp) []byte {
	var flags byte
	if s.Synced {
		flags |= flagSynced
	}
	id, isUUID := parseUUID(s.Boot)
	if isUUID {
		flags |= flagUUID
	}
	if s.Wall.IsZero() {
		flags |= flagNoWall
	}
	b = append(b, flags)
	if isUUID {
		b = append(b, id[:]...)
	} else {
		b = appendString(b, s.Boot)
	}
	b = binary.AppendVarint(b, int64(s.Mono))
	if flags&flagNoWall == 0 {
		b = binary.AppendVarint(b, s.Wall.Unix())
		b = binary.AppendUvarint(b, uint64(s.Wall.Nanosecond()))
	}
	return b
}

func appendField(b []byte, f sensors.Field) ([]byte, error) {
	b = appendString(b, f.Name)
	switch v := f.Value.(type) {
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return b, fmt.Errorf("field %q is %v, want a finite number", f.Name, v)
		}
		b = append(b, 'f')
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
	case int64:
		b = append(b, 'i')
		b = binary.AppendVarint(b, v)
	case string:
		b = append(b, 's')
		b = appendString(b, v)
	case bool:
		if v {
			b = append(b, 't')
		} else {
			b = append(b, 'n')
		}
	default:
		return b, fmt.Errorf("field %q is a %T, want float64, int64, bool or string", f.Name, f.Value)
	}
	return b, nil
}

func appendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// decodeRecord is the inverse of appendRecord. The record shares nothing with
// b. Damaged bytes give an error that wraps errPayload, never a panic and
// never more memory than b's own length justifies.
func decodeRecord(b []byte) (Record, error) {
	d := decoder{b: b}
	if v := d.byte(); v != codecVersion {
		return Record{}, fmt.Errorf("%w: version %d", errPayload, v)
	}
	r := Record{Kind: Kind(d.string()), Sensor: d.string(), Run: d.uvarint(), Seq: d.uvarint()}
	r.Stamp = d.stamp()
	n := d.uvarint()
	if n > uint64(len(d.b))/2 {
		return Record{}, fmt.Errorf("%w: %d fields", errPayload, n)
	}
	if n > 0 {
		r.Fields = make([]sensors.Field, n)
	}
	for i := range r.Fields {
		r.Fields[i] = d.field()
	}
	if d.bad || len(d.b) > 0 || r.Kind == "" {
		return Record{}, errPayload
	}
	return r, nil
}

// header is what the spool itself needs of a record.
type header struct {
	kind, sensor []byte // share the payload's memory
	run, seq     uint64
}

// peek reads the head of a record's binary form; it allocates nothing.
func peek(b []byte) (header, bool) {
	d := decoder{b: b}
	if d.byte() != codecVersion {
		return header{}, false
	}
	h := header{kind: d.bytes(), sensor: d.bytes(), run: d.uvarint(), seq: d.uvarint()}
	return h, !d.bad
}

// decoder takes values off the front of b; bad is set when b does not hold
// what was asked for, and every value from then on is zero.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n uint64) []byte {
	if d.bad || n > uint64(len(d.b)) {
		d.bad = true
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) byte() byte {
	if v := d.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad = true
	}
	d.take(uint64(max(n, 0)))
	if d.bad {
		return 0
	}
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.bad = true
	}
	d.take(uint64(max(n, 0)))
	if d.bad {
		return 0
	}
	return v
}

func (d *decoder) bytes() []byte  { return d.take(d.uvarint()) }
func (d *decoder) string() string { return string(d.bytes()) }

func (d *decoder) stamp() clock.Stamp {
	var s clock.Stamp
	flags := d.byte()
	s.Synced = flags&flagSynced != 0
	if flags&flagUUID != 0 {
		s.Boot = formatUUID(d.take(16))
	} else {
		s.Boot = d.string()
	}
	s.Mono = time.Duration(d.varint())
	if flags&flagNoWall == 0 {
		sec, nsec := d.varint(), d.uvarint()
		if nsec >= 1e9 {
			d.bad = true
			return s
		}
		s.Wall = time.Unix(sec, int64(nsec)).UTC()
	}
	return s
}

func (d *decoder) field() sensors.Field {
	f := sensors.Field{Name: d.string()}
	switch d.byte() {
	case 'f':
		if v := d.take(8); v != nil {
			f.Value = math.Float64frombits(binary.LittleEndian.Uint64(v))
		}
	case 'i':
		f.Value = d.varint()
	case 's':
		f.Value = d.string()
	case 't':
		f.Value = true
	case 'n':
		f.Value = false
	default:
		d.bad = true
	}
	return f
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
	return id, formatUUID(id[:]) == s
}

func formatUUID(b []byte) string {
	if len(b) != 16 {
		return ""
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
