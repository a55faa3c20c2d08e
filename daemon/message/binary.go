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

// CheckBody returns the kind of a body, and checks that [DecodeBody] can decode it. It allocates
// nothing.
func CheckBody(b []byte) (Kind, error) {
	kind, d, n, err := decodeHead(b)
	if err != nil {
		return "", err
	}
	for range n {
		d.value()
	}
	if d.Bad || len(d.B) > 0 {
		return "", ErrForm
	}
	return kind, nil
}

// DecodeBody is the inverse of [AppendBody]. The result shares no memory with b. Damaged
// bytes return an error that wraps [ErrForm]; they cause no panic, and need no more memory
// than the length of b justifies.
func DecodeBody(b []byte) (Kind, []sensors.Field, error) {
	kind, d, n, err := decodeHead(b)
	if err != nil {
		return "", nil, err
	}
	var fields []sensors.Field
	if n > 0 {
		fields = make([]sensors.Field, n)
	}
	for i := range fields {
		fields[i] = d.field()
	}
	if d.Bad || len(d.B) > 0 {
		return "", nil, ErrForm
	}
	return kind, fields, nil
}

// decodeHead decodes what is ahead of the fields, and returns a decoder of these and their
// number.
func decodeHead(b []byte) (Kind, decoder, uint64, error) {
	d := decoder{durable.Decoder{B: b}}
	if v := d.Byte(); v != codecVersion {
		return "", d, 0, fmt.Errorf("%w: version %d", ErrForm, v)
	}
	kind := kindOf(d.Bytes())
	n := d.Uvarint()
	if n > uint64(len(d.B))/2 {
		return "", d, 0, fmt.Errorf("%w: %d fields", ErrForm, n)
	}
	if kind == "" {
		return "", d, 0, ErrForm
	}
	return kind, d, n, nil
}

// kindOf returns a kind. It allocates nothing for a sample or an edge.
func kindOf(b []byte) Kind {
	switch string(b) {
	case string(Reading):
		return Reading
	case string(Edge):
		return Edge
	}
	return Kind(b)
}

// decoder reads a record's fields from its body.
type decoder struct{ durable.Decoder }

func (d *decoder) field() sensors.Field {
	name, v := d.value()
	f := sensors.Field{Name: string(name)}
	switch v.form {
	case 'f':
		f.Value = v.float
	case 'i':
		f.Value = v.integer
	case 's':
		f.Value = string(v.text)
	case 't', 'n':
		f.Value = v.form == 't'
	}
	return f
}

// rawValue is a field's value, by its type byte.
type rawValue struct {
	form    byte
	float   float64 // 'f'
	integer int64   // 'i'
	text    []byte  // 's'; shares the memory of the body
}

// value reads a field. It allocates nothing; the name shares the memory of the body.
func (d *decoder) value() (name []byte, v rawValue) {
	name, v.form = d.Bytes(), d.Byte()
	switch v.form {
	case 'f':
		if b := d.Take(8); b != nil {
			v.float = math.Float64frombits(binary.LittleEndian.Uint64(b))
		}
	case 'i':
		v.integer = d.Varint()
	case 's':
		v.text = d.Bytes()
	case 't', 'n':
	default:
		d.Bad = true
	}
	return name, v
}
