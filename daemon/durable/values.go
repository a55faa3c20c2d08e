package durable

import "encoding/binary"

// AppendString appends a string's length and its bytes.
func AppendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// Decoder takes values off the front of B; Bad is set when B does not hold
// what was asked for, and every value from then on is zero. It never takes more
// memory than the length of B justifies.
type Decoder struct {
	B   []byte
	Bad bool
}

// Take takes n bytes, which share the memory of B.
func (d *Decoder) Take(n uint64) []byte {
	if d.Bad || n > uint64(len(d.B)) {
		d.Bad = true
		return nil
	}
	v := d.B[:n]
	d.B = d.B[n:]
	return v
}

// Byte takes one byte.
func (d *Decoder) Byte() byte {
	if v := d.Take(1); v != nil {
		return v[0]
	}
	return 0
}

// Uvarint takes an unsigned number.
func (d *Decoder) Uvarint() uint64 {
	v, n := binary.Uvarint(d.B)
	if n <= 0 {
		d.Bad = true
	}
	d.Take(uint64(max(n, 0)))
	if d.Bad {
		return 0
	}
	return v
}

// Varint takes a signed number.
func (d *Decoder) Varint() int64 {
	v, n := binary.Varint(d.B)
	if n <= 0 {
		d.Bad = true
	}
	d.Take(uint64(max(n, 0)))
	if d.Bad {
		return 0
	}
	return v
}

// Bytes takes a length and as many bytes, which share the memory of B.
func (d *Decoder) Bytes() []byte { return d.Take(d.Uvarint()) }

// String takes a length and as many bytes.
func (d *Decoder) String() string { return string(d.Bytes()) }
