package spool

import "slices"

// span is the ids from lo up to but not including hi.
type span struct{ lo, hi uint64 }

// ids is a set of ids, kept as ascending spans that neither overlap nor touch.
// Its size follows the number of holes, not the number of ids.
type ids struct{ spans []span }

// find gives the index of the first span that ends behind id.
func (s *ids) find(id uint64) int {
	lo, hi := 0, len(s.spans)
	for lo < hi {
		if m := (lo + hi) / 2; s.spans[m].hi <= id {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo
}

// has reports whether id is in the set.
func (s *ids) has(id uint64) bool {
	i := s.find(id)
	return i < len(s.spans) && s.spans[i].lo <= id
}

// add puts the ids from lo up to but not including hi into the set.
func (s *ids) add(lo, hi uint64) {
	if lo >= hi {
		return
	}
	i := s.find(lo)
	if i > 0 && s.spans[i-1].hi == lo {
		i--
	}
	j := i
	for j < len(s.spans) && s.spans[j].lo <= hi {
		lo, hi = min(lo, s.spans[j].lo), max(hi, s.spans[j].hi)
		j++
	}
	if j == i+1 {
		s.spans[i] = span{lo, hi}
		return
	}
	s.spans = slices.Replace(s.spans, i, j, span{lo, hi})
}

// free gives the least id from id on that is not in the set.
func (s *ids) free(id uint64) uint64 {
	if i := s.find(id); i < len(s.spans) && s.spans[i].lo <= id {
		return s.spans[i].hi
	}
	return id
}

// within gives the parts of the set from lo up to but not including hi.
func (s *ids) within(lo, hi uint64) []span {
	var out []span
	for i := s.find(lo); i < len(s.spans) && s.spans[i].lo < hi; i++ {
		out = append(out, span{max(lo, s.spans[i].lo), min(hi, s.spans[i].hi)})
	}
	return out
}

// without gives the parts of the set from lo up to but not including hi that
// are not in other.
func (s *ids) without(lo, hi uint64, other *ids) []span {
	var out []span
	for _, x := range s.within(lo, hi) {
		for _, y := range other.within(x.lo, x.hi) {
			if x.lo < y.lo {
				out = append(out, span{x.lo, y.lo})
			}
			x.lo = y.hi
		}
		if x.lo < x.hi {
			out = append(out, x)
		}
	}
	return out
}
