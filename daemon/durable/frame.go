package durable

import (
	"encoding/binary"
	"hash/crc32"
)

// The form of a frame. All numbers are little-endian.
//
//	crc32c u32 of all that follows in the frame, len u32, seq u64, payload of len bytes
//
// In a file seq increases from frame to frame, not always by one.
const (
	// FrameSize is the size of a frame without its payload, in bytes.
	FrameSize = 16
	// MaxPayload is the largest payload of a frame, in bytes. It is also the largest
	// message that AWS IoT Core accepts ("AWS IoT Core message broker and protocol
	// limits and quotas").
	MaxPayload = 128 << 10
	// MaxSkip is the most by which seq may increase from one frame to the next.
	MaxSkip = 1 << 32
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksum returns the CRC-32C of b.
func Checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// FrameLen returns the size of the frame of a payload, in bytes.
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

// Scanner reads the frames of a file. It skips bytes that are no frame, so damage costs
// only the frames that it hit.
type Scanner struct {
	// Seq and Payload belong to the current frame. Payload shares the memory of the
	// file's bytes.
	Seq     uint64
	Payload []byte
	// Tail is the number of bytes after the last frame. It is valid after Next has
	// returned false. Holes counts the places before the current frame where bytes
	// are no frame.
	Tail, Holes int

	data []byte
	pos  int
	any  bool // there was a frame
}

// Scan returns a scanner for the frames in data, from the position pos on.
func Scan(data []byte, pos int) *Scanner { return &Scanner{data: data, pos: min(pos, len(data))} }

// Pos returns the position after the current frame. After Next has returned false it
// is the end of the file.
func (s *Scanner) Pos() int { return s.pos }

// Next moves to the next frame. It reports whether there is one.
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
