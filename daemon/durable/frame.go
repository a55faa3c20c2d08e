package durable

import (
	"encoding/binary"
	"hash/crc32"
)

// A frame, all numbers little-endian:
//
//	crc32c u32 of all that follows in the frame, len u32, seq u64, payload of len bytes
//
// Within a file seq grows from frame to frame, not always by one.
const (
	// FrameSize is what a frame takes besides its payload, in bytes.
	FrameSize = 16
	// MaxPayload is the most that a frame's payload takes, in bytes; it is also the
	// most that AWS IoT Core takes in one message ("AWS IoT Core message broker and
	// protocol limits and quotas").
	MaxPayload = 128 << 10
	// MaxSkip is the most by which seq may grow from one frame to the next.
	MaxSkip = 1 << 32
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksum is the CRC-32C of b.
func Checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// FrameLen is the size of a payload's frame in bytes.
func FrameLen(payload []byte) int64 { return FrameSize + int64(len(payload)) }

// AppendFrame appends a frame to b. The payload has 1 to [MaxPayload] bytes.
func AppendFrame(b []byte, seq uint64, payload []byte) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	b = binary.LittleEndian.AppendUint64(b, seq)
	b = append(b, payload...)
	binary.LittleEndian.PutUint32(b[start:], Checksum(b[start+4:]))
	return b
}

// Scanner reads the frames of a file. Where bytes are no frame it looks for
// the next one, so that damage costs the frames it hit and no others.
type Scanner struct {
	// Seq and Payload are the latest frame's. Payload shares the file's bytes.
	Seq     uint64
	Payload []byte
	// Tail is the number of bytes at the end that are no frame, once Next has
	// returned false. Holes is the number of runs of bytes that are no frame,
	// between frames or before the first.
	Tail, Holes int

	data []byte
	pos  int
	any  bool // there was a frame
}

// Scan gives a scanner of the frames in data from a position on.
func Scan(data []byte, pos int) *Scanner { return &Scanner{data: data, pos: min(pos, len(data))} }

// Pos is the position behind the latest frame, and the file's end once Next has
// returned false.
func (s *Scanner) Pos() int { return s.pos }

// Next finds the next frame, and reports whether there is one.
func (s *Scanner) Next() bool {
	start := s.pos
	for at := s.pos; at+FrameSize <= len(s.data); at++ {
		if !s.frame(at) {
			continue
		}
		if at > start {
			s.Holes++
		}
		return true
	}
	s.Tail = len(s.data) - start
	s.pos = len(s.data)
	return false
}

func (s *Scanner) frame(at int) bool {
	b := s.data[at:]
	n := uint64(binary.LittleEndian.Uint32(b[4:]))
	if n == 0 || n > MaxPayload || n > uint64(len(b)-FrameSize) {
		return false
	}
	seq := binary.LittleEndian.Uint64(b[8:])
	if s.any && (seq <= s.Seq || seq-s.Seq > MaxSkip) {
		return false
	}
	end := FrameSize + int(n)
	if Checksum(b[4:end]) != binary.LittleEndian.Uint32(b) {
		return false
	}
	s.Seq, s.any, s.Payload = seq, true, b[FrameSize:end]
	s.pos = at + end
	return true
}
