package spool

import (
	"math/rand/v2"
	"testing"
)

func TestIDsAgainstAPlainSet(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var s ids
		plain := map[uint64]bool{}
		for range 60 {
			lo := rnd.Uint64N(100)
			hi := lo + rnd.Uint64N(8)
			s.add(lo, hi)
			for id := lo; id < hi; id++ {
				plain[id] = true
			}
			checkIDs(t, s, plain)
		}
	}
}

func checkIDs(t *testing.T, s ids, plain map[uint64]bool) {
	t.Helper()
	for i, x := range s.spans {
		if x.lo >= x.hi || i > 0 && s.spans[i-1].hi >= x.lo {
			t.Fatalf("spans out of order: %v", s.spans)
		}
	}
	for id := range uint64(110) {
		if s.has(id) != plain[id] {
			t.Fatalf("has(%d) = %v with %v", id, s.has(id), s.spans)
		}
		free := id
		for plain[free] {
			free++
		}
		if got := s.free(id); got != free {
			t.Fatalf("free(%d) = %d, want %d, with %v", id, got, free, s.spans)
		}
		before := max(id, 1) - 1
		for before > 0 && plain[before] {
			before--
		}
		if got := s.freeBefore(id); got != before {
			t.Fatalf("freeBefore(%d) = %d, want %d, with %v", id, got, before, s.spans)
		}
	}
	n := 0
	for _, x := range s.within(20, 50) {
		for id := x.lo; id < x.hi; id++ {
			if id < 20 || id >= 50 || !plain[id] {
				t.Fatalf("within(20, 50) has %d with %v", id, s.spans)
			}
			n++
		}
	}
	for id := uint64(20); id < 50; id++ {
		if plain[id] {
			n--
		}
	}
	if n != 0 {
		t.Fatalf("within(20, 50) is off by %d with %v", n, s.spans)
	}
}
