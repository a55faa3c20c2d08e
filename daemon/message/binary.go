package message

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/durable"
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

// ErrForm is the reason when bytes are not a record.
var ErrForm = errors.New("not a record")

// reserved are the keys that [Encode] writes itself.
var reserved = []string{"thing", "kind", "sensor", "spool", "run", "seq", "time", "clock"}

// Append appends r's binary form to b. An error says why r cannot be
// kept. [Record.Source] is not part of it.
func Append(b []byte, r Record) ([]byte, error) {
	start := len(b)
	if r.Kind == "" {
		return b, errors.New("record has no kind")
	}
	b = append(b, codecVersion)
	b = durable.AppendString(b, string(r.Kind))
	b = durable.AppendString(b, r.Sensor)
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
	if n := len(b) - start; n > durable.MaxPayload {
		return b[:start], fmt.Errorf("record of %d bytes is larger than %d", n, durable.MaxPayload)
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
		b = durable.AppendString(b, s.Boot)
	}
	b = binary.AppendVarint(b, int64(s.Mono))
	if flags&flagNoWall == 0 {
		b = binary.AppendVarint(b, s.Wall.Unix())
		b = binary.AppendUvarint(b, uint64(s.Wall.Nanosecond()))
	}
	return b
}

func appendField(b []byte, f sensors.Field) ([]byte, error) {
	b = durable.AppendString(b, f.Name)
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
		b = durable.AppendString(b, v)
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

// Decode is the inverse of [Append]. The record shares nothing with
// b. Damaged bytes give an error that wraps [ErrForm], never a panic and
// never more memory than b's own length justifies.
func Decode(b []byte) (Record, error) {
	d := decoder{durable.Decoder{B: b}}
	if v := d.Byte(); v != codecVersion {
		return Record{}, fmt.Errorf("%w: version %d", ErrForm, v)
	}
	r := Record{Kind: Kind(d.String()), Sensor: d.String(), Run: d.Uvarint(), Seq: d.Uvarint()}
	r.Stamp = d.stamp()
	n := d.Uvarint()
	if n > uint64(len(d.B))/2 {
		return Record{}, fmt.Errorf("%w: %d fields", ErrForm, n)
	}
	if n > 0 {
		r.Fields = make([]sensors.Field, n)
	}
	for i := range r.Fields {
		r.Fields[i] = d.field()
	}
	if d.Bad || len(d.B) > 0 || r.Kind == "" {
		return Record{}, ErrForm
	}
	return r, nil
}

// Header is what can be read of a record without decoding all of it.
type Header struct {
	Kind, Sensor []byte // share the binary form's memory
	Run, Seq     uint64
}

// Peek reads the head of a record's binary form; it allocates nothing. ok is false
// where there is none.
func Peek(b []byte) (h Header, ok bool) {
	d := decoder{durable.Decoder{B: b}}
	if d.Byte() != codecVersion {
		return Header{}, false
	}
	h = Header{Kind: d.Bytes(), Sensor: d.Bytes(), Run: d.Uvarint(), Seq: d.Uvarint()}
	return h, !d.Bad
}

// decoder takes a record's parts off the front of its binary form.
type decoder struct{ durable.Decoder }

func (d *decoder) stamp() clock.Stamp {
	var s clock.Stamp
	flags := d.Byte()
	s.Synced = flags&flagSynced != 0
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

func (d *decoder) field() sensors.Field {
	f := sensors.Field{Name: d.String()}
	switch d.Byte() {
	case 'f':
		if v := d.Take(8); v != nil {
			f.Value = math.Float64frombits(binary.LittleEndian.Uint64(v))
		}
	case 'i':
		f.Value = d.Varint()
	case 's':
		f.Value = d.String()
	case 't':
		f.Value = true
	case 'n':
		f.Value = false
	default:
		d.Bad = true
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
