package spool

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/durable"
)

// A segment file is a header and then frames, all numbers little-endian.
//
//	header  magic "FPSPOOL1", lane u8, 3 zero bytes, number u32, run u64, crc32c u32 of all before
//	frame   crc32c u32 of all that follows in the frame, len u32, seq u64, payload of len bytes
//
// Within a file seq grows from frame to frame, not always by one: what was
// acknowledged before it was written has a seq too. A run and a seq name a
// record of a lane for good.
const (
	magic       = "FPSPOOL1"
	headerSize  = 28
	segmentSize = 256 << 10
	// maxFile is the largest file worth reading: no segment is ever larger.
	maxFile = segmentSize + durable.FrameSize + durable.MaxPayload
)

// summary is what a segment holds of one sensor in one run. Of the events it is
// kept for those alone that have a seq.
type summary struct {
	sensor string
	run    uint64
	lo, hi uint64 // the least and the greatest seq; 0 where none has one
	bytes  int64  // of the frames
}

// segment is a file of one lane's records.
type segment struct {
	class  Class
	run    uint64
	number uint32
	off    uint64 // a record's id is off plus its frame's seq
	lo, hi uint64 // the ids it spans, hi not included; lo == hi while it is empty
	size   int64  // bytes written
	good   int64  // bytes known to be on disk
	sure   uint64 // behind the last id known to be on disk; 0 while none is
	live   int    // records that are not done
	frames int    // records in the file, done or not
	sums   []summary
	oldest clock.Stamp // of its first record
	newest clock.Stamp // of its last record

	gone    bool // it should be there and is not
	corrupt ids  // what cannot be read although its frame is sound
	bad     bool // damaged: it is renamed, not removed, when done with
	tries   int  // how often reading it has failed in a row
}

// note keeps what the segment holds of a sensor.
func (g *segment) note(sensor string, run, seq uint64, bytes int64) {
	if seq == 0 && g.class == Events {
		return
	}
	for i := range g.sums {
		if s := &g.sums[i]; s.run == run && s.sensor == sensor {
			s.bytes += bytes
			if seq > 0 {
				s.lo, s.hi = min(cmp.Or(s.lo, seq), seq), max(s.hi, seq)
			}
			return
		}
	}
	g.sums = append(g.sums, summary{sensor, run, seq, seq, bytes})
}

// file is the segment's name: samples-7-3.seg is the third file of the samples
// of run 7.
func (g *segment) file() string {
	return fmt.Sprintf("%s-%d-%d%s", classNames[g.class], g.run, g.number, segmentExt)
}

const segmentExt = ".seg"

// parseSegment reads a segment's name.
func parseSegment(name string) (*segment, bool) {
	body, ok := strings.CutSuffix(name, segmentExt)
	parts := strings.Split(body, "-")
	if !ok || len(parts) != 3 {
		return nil, false
	}
	run, err1 := strconv.ParseUint(parts[1], 10, 64)
	number, err2 := strconv.ParseUint(parts[2], 10, 32)
	if err1 != nil || err2 != nil {
		return nil, false
	}
	for c, l := range classNames {
		if g := (&segment{class: Class(c), run: run, number: uint32(number)}); l == parts[0] && g.file() == name {
			return g, true
		}
	}
	return nil, false
}

func (g *segment) header() []byte {
	b := append(make([]byte, 0, headerSize), magic...)
	b = append(b, byte(g.class), 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, g.number)
	b = binary.LittleEndian.AppendUint64(b, g.run)
	return binary.LittleEndian.AppendUint32(b, durable.Checksum(b))
}

// scanSegment gives a scanner at the first frame of a segment file, or false
// where the header is not the one that belongs to the file's name.
func (g *segment) scan(data []byte) (*durable.Scanner, bool) {
	ok := len(data) >= headerSize && string(data[:headerSize]) == string(g.header())
	return durable.Scan(data, headerSize), ok
}
