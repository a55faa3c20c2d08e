package history

import (
	"encoding/binary"
	"math"

	"fieldpost/daemon/durable"
)

// The form of an entry in the files. It has points of one ring that were taken in one boot.
//
//	version u8, number uvarint, flags u8, boot string, shift varint, ring u8,
//	then for each series:
//	  sensor string, quantity string, base f64, weight uvarint, points uvarint,
//	  then for each point:
//	    steps uvarint, flags u8, count uvarint if it is not weight, mean f32, min f32 and max
//	    f32 if they are not the mean
//
// number increases from entry to entry, over both files. shift is what the time since the
// boot and the wall time differ by in seconds; it is right if flags say so. steps counts the
// steps of the ring since the point before, for the first one since the boot. count is the
// number of values in the mean, 0 for an input that only changed.
const (
	codecVersion = 1

	flagSynced = 1 // of an entry: shift is right

	flagFlat  = 1 // of a point: min and max are the mean
	flagCount = 2 // of a point: it has a count
)

// maxEntry is the size from which on an entry is not extended, in bytes.
const maxEntry = 16 << 10

// maxName bounds the length of a name in the files.
const maxName = 256

// header is the first part of an entry.
type header struct {
	number uint64
	boot   string
	shift  int64
	synced bool
	ring   int
}

func (h header) append(b []byte) []byte {
	b = binary.AppendUvarint(append(b, codecVersion), h.number)
	flags := byte(0)
	if h.synced {
		flags = flagSynced
	}
	b = durable.AppendString(append(b, flags), h.boot)
	return append(binary.AppendVarint(b, h.shift), byte(h.ring))
}

// decodeHeader decodes the header of an entry; known is false if it is of another version or
// damaged. The decoder is at the first series then.
func decodeHeader(entry []byte) (h header, d durable.Decoder, known bool) {
	d = durable.Decoder{B: entry}
	version := d.Byte()
	h.number = d.Uvarint()
	h.synced = d.Byte()&flagSynced != 0
	boot := d.Bytes()
	h.shift = d.Varint()
	h.ring = int(d.Byte())
	if d.Bad || version != codecVersion || len(boot) > maxName || h.ring == 0 || h.ring >= len(tiers) || h.shift < 0 || h.shift > math.MaxUint32 {
		return header{}, d, false
	}
	h.boot = string(boot)
	return h, d, true
}

// counted is a point with the number of values in its mean.
type counted struct {
	point
	count uint32
}

// appendSeries appends a series with its points of a ring, oldest first. weight is the count
// that most of them have.
func appendSeries(b []byte, sensor string, s *series, ring int, weight uint32, all []counted) []byte {
	b = durable.AppendString(durable.AppendString(b, sensor), s.quantity)
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(s.base))
	b = binary.AppendUvarint(b, uint64(weight))
	b = binary.AppendUvarint(b, uint64(len(all)))
	before := uint32(0)
	for _, p := range all {
		flags := byte(0)
		if p.min == p.mean && p.max == p.mean {
			flags |= flagFlat
		}
		if p.count != weight {
			flags |= flagCount
		}
		steps := p.at / tiers[ring].step
		b = append(binary.AppendUvarint(b, uint64(steps-before)), flags)
		before = steps
		if p.count != weight {
			b = binary.AppendUvarint(b, uint64(p.count))
		}
		b = appendFloat(b, p.mean)
		if flags&flagFlat == 0 {
			b = appendFloat(appendFloat(b, p.min), p.max)
		}
	}
	return b
}

func appendFloat(b []byte, v float32) []byte {
	return binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
}

// readSeries is the head of a series in an entry. The names share the memory of the entry.
type readSeries struct {
	sensor, quantity []byte
	base             float64
	weight           uint32
	points           uint64
}

// decodeSeries decodes the head of a series. It reports false at the end, and if it is
// damaged, which d.Bad says.
func decodeSeries(d *durable.Decoder) (s readSeries, ok bool) {
	if len(d.B) == 0 || d.Bad {
		return s, false
	}
	s.sensor, s.quantity = d.Bytes(), d.Bytes()
	if b := d.Take(8); b != nil {
		s.base = math.Float64frombits(binary.LittleEndian.Uint64(b))
	}
	weight := d.Uvarint()
	s.points = d.Uvarint()
	if len(s.sensor) == 0 || len(s.sensor) > maxName || len(s.quantity) == 0 || len(s.quantity) > maxName || !(math.Abs(s.base) <= math.MaxFloat32/2) || weight > math.MaxUint32 {
		d.Bad = true
	}
	s.weight = uint32(weight)
	return s, !d.Bad
}

// decodePoint decodes the next point of a series; before is the one before, or zero.
func decodePoint(d *durable.Decoder, ring int, weight uint32, before point) (p counted) {
	step := uint64(tiers[ring].step)
	at := uint64(before.at)/step + d.Uvarint()
	flags := d.Byte()
	count := uint64(weight)
	if flags&flagCount != 0 {
		count = d.Uvarint()
	}
	p.mean = decodeFloat(d)
	p.min, p.max = p.mean, p.mean
	if flags&flagFlat == 0 {
		p.min, p.max = decodeFloat(d), decodeFloat(d)
	}
	if at >= wallFirst/step || count > math.MaxUint32 || !(p.min <= p.mean && p.mean <= p.max) || isInf(p.min) || isInf(p.max) {
		d.Bad = true
		return counted{}
	}
	p.at, p.count = uint32(at*step), uint32(count)
	return p
}

func decodeFloat(d *durable.Decoder) float32 {
	if b := d.Take(4); b != nil {
		return math.Float32frombits(binary.LittleEndian.Uint32(b))
	}
	return 0
}

func isInf(v float32) bool { return v > math.MaxFloat32 || v < -math.MaxFloat32 }
