package durable

import "encoding/binary"

// AppendString appends the length of a string and its bytes.
func AppendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// Decoder reads values from the front of B. If B does not start with the value that is
// asked for, Bad is set, and that value and all later ones are zero. It never allocates
// more memory than B has bytes.
type Decoder struct {
	B   []byte
	Bad bool
}

// Take reads n bytes. They share the memory of B.
func (d *Decoder) Take(n uint64) []byte {
	if d.Bad || n > uint64(len(d.B)) {
		d.Bad = true
		return nil
	}
	v := d.B[:n]
	d.B = d.B[n:]
	return v
}

// Byte reads one byte.
func (d *Decoder) Byte() byte {
	if v := d.Take(1); v != nil {
		return v[0]
	}
	return 0
}

// Uvarint reads an unsigned number.
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

// Varint reads a signed number.
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

// Bytes reads a length and as many bytes. They share the memory of B.
func (d *Decoder) Bytes() []byte { return d.Take(d.Uvarint()) }

// String reads a length and as many bytes.
func (d *Decoder) String() string { return string(d.Bytes()) }
