package spool

import (
	"bytes"
	"fmt"
	"testing"

	"fieldpost/daemon/durable"
)

func TestSegmentNames(t *testing.T) {
	for _, name := range []string{"samples-7-3.seg", "events-1-4294967295.seg", "samples-18446744073709551615-1.seg"} {
		g, ok := parseSegment(name)
		if !ok || g.file() != name {
			t.Errorf("%q: %+v, %v", name, g, ok)
		}
	}
	for _, name := range []string{
		"", ".seg", "samples-7-3", "samples-7-3.seg.damaged", "samples-07-3.seg", "other-7-3.seg",
		"samples-7.seg", "samples-7-4294967296.seg", "samples--7-3.seg", "samples-+7-3.seg", "run", "acks",
	} {
		if g, ok := parseSegment(name); ok {
			t.Errorf("%q was taken for %+v", name, g)
		}
	}
}

// someFrames returns a segment file of n records with payloads of some size.
func someFrames(n, size int) (*segment, []byte) {
	g := &segment{class: Samples, run: 7, number: 1}
	b := g.header()
	for i := range n {
		b = durable.AppendFrame(b, uint64(10+i), bytes.Repeat([]byte{byte('a' + i)}, size))
	}
	return g, b
}

func scanAll(g *segment, data []byte) (seqs []uint64, s *durable.Scanner) {
	s, _ = g.scan(data)
	for s.Next() {
		seqs = append(seqs, s.Seq)
	}
	return seqs, s
}

func TestScanDamage(t *testing.T) {
	const size = 20
	const step = durable.FrameSize + size
	for _, c := range []struct {
		name   string
		damage func(b []byte) []byte
		want   string
		holes  int
		tail   int
	}{
		{"none", func(b []byte) []byte { return b }, "[10 11 12 13]", 0, 0},
		{"cut within a record", func(b []byte) []byte { return b[:len(b)-1] }, "[10 11 12]", 0, step - 1},
		{"cut within a head", func(b []byte) []byte { return b[:len(b)-step+3] }, "[10 11 12]", 0, 3},
		{"zeros behind", func(b []byte) []byte { return append(b, make([]byte, 4096)...) }, "[10 11 12 13]", 0, 4096},
		{"bit in a payload", func(b []byte) []byte { b[headerSize+step+20] ^= 1; return b }, "[10 12 13]", 1, 0},
		{"bit in a length", func(b []byte) []byte { b[headerSize+4] ^= 0x80; return b }, "[11 12 13]", 1, 0},
		{"bit in a seq", func(b []byte) []byte { b[headerSize+2*step+8] ^= 1; return b }, "[10 11 13]", 1, 0},
		{"two zeroed", func(b []byte) []byte { clear(b[headerSize+step : headerSize+3*step]); return b }, "[10 13]", 1, 0},
		{"all zeroed", func(b []byte) []byte { clear(b[headerSize:]); return b }, "[]", 0, 4 * step},
		{"records again", func(b []byte) []byte { return append(b, b[headerSize:]...) }, "[10 11 12 13]", 0, 4 * step},
		{"a length of 4 GB", func(b []byte) []byte { copy(b[headerSize+4:], "\xff\xff\xff\xff"); return b }, "[11 12 13]", 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, b := someFrames(4, size)
			seqs, s := scanAll(g, c.damage(b))
			if got := fmt.Sprint(seqs); got != c.want || s.Holes != c.holes || s.Tail != c.tail {
				t.Errorf("got %s, %d holes, tail %d; want %s, %d, %d", got, s.Holes, s.Tail, c.want, c.holes, c.tail)
			}
		})
	}
}

func TestScanHeader(t *testing.T) {
	g, b := someFrames(1, 5)
	if _, ok := g.scan(b); !ok {
		t.Error("the right header was refused")
	}
	for i := range headerSize {
		damagedSpool := bytes.Clone(b)
		damagedSpool[i] ^= 1
		if _, ok := g.scan(damagedSpool); ok {
			t.Errorf("byte %d of the header may be anything", i)
		}
	}
	for n := range headerSize {
		if s, ok := g.scan(b[:n]); ok || s.Next() {
			t.Errorf("%d bytes were taken for a segment", n)
		}
	}
	other := &segment{class: Samples, run: 8, number: 1}
	if _, ok := other.scan(b); ok || !isAnother(b) {
		t.Error("another segment's header was not told apart")
	}
}

// FuzzScan checks that whatever bytes do, only frames that check out are
// given, in order, and that what precedes the first damage is given.
func FuzzScan(f *testing.F) {
	_, b := someFrames(3, 9)
	f.Add(b, uint16(40), byte(1))
	f.Add(b[:50], uint16(0), byte(0))
	f.Add([]byte{}, uint16(0), byte(255))
	f.Fuzz(func(t *testing.T, data []byte, at uint16, x byte) {
		g, whole := someFrames(3, 9)
		damagedSpool := bytes.Clone(whole)
		damagedSpool[int(at)%len(damagedSpool)] ^= x
		for _, b := range [][]byte{data, damagedSpool, append(bytes.Clone(whole), data...)} {
			s, _ := g.scan(b)
			last := uint64(0)
			for n := 0; s.Next(); n++ {
				if n > 0 && s.Seq <= last {
					t.Fatalf("seq %d after %d", s.Seq, last)
				}
				last = s.Seq
				if !bytes.Contains(b, durable.AppendFrame(nil, s.Seq, s.Payload)) {
					t.Fatalf("frame %d is not in the data", s.Seq)
				}
			}
		}
		if seqs, _ := scanAll(g, append(whole, data...)); len(seqs) < 3 || seqs[0] != 10 || seqs[2] != 12 {
			t.Fatalf("records before the damage were lost: %v", seqs)
		}
	})
}
