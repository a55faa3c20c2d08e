package message

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"fieldpost/daemon/durable"
	"fieldpost/sensors"
)

// The form of a record's body, version 1. Counts are uvarints, signed numbers
// varints, strings a length and their bytes.
//
//	version  1 byte
//	kind     string
//	fields   a count, then each: name string, type byte, value
//
// A field's value is 8 bytes little-endian IEEE 754 for 'f', signed for 'i', a
// string for 's', nothing for 't' (true) and 'n' (false).
const codecVersion = 1

// ErrForm is the reason when bytes are not the body of a record.
var ErrForm = errors.New("not a record")

// reserved are the keys that [Encode] writes itself.
var reserved = []string{"thing", "kind", "sensor", "spool", "run", "seq", "time", "clock"}

// AppendBody appends the body of r to b: its kind and its fields, which the spool does not
// need to understand. The error says why r cannot be stored.
func AppendBody(b []byte, r Record) ([]byte, error) {
	start := len(b)
	if r.Kind == "" {
		return b, errors.New("record has no kind")
	}
	b = append(b, codecVersion)
	b = durable.AppendString(b, string(r.Kind))
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

// DecodeBody is the inverse of [AppendBody]. The result shares no memory with b. Damaged
// bytes return an error that wraps [ErrForm]; they cause no panic, and need no more memory
// than the length of b justifies.
func DecodeBody(b []byte) (Kind, []sensors.Field, error) {
	d := decoder{durable.Decoder{B: b}}
	if v := d.Byte(); v != codecVersion {
		return "", nil, fmt.Errorf("%w: version %d", ErrForm, v)
	}
	kind := Kind(d.String())
	n := d.Uvarint()
	if n > uint64(len(d.B))/2 {
		return "", nil, fmt.Errorf("%w: %d fields", ErrForm, n)
	}
	var fields []sensors.Field
	if n > 0 {
		fields = make([]sensors.Field, n)
	}
	for i := range fields {
		fields[i] = d.field()
	}
	if d.Bad || len(d.B) > 0 || kind == "" {
		return "", nil, ErrForm
	}
	return kind, fields, nil
}

// decoder reads a record's fields from its body.
type decoder struct{ durable.Decoder }

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
