package spool

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"fieldpost/daemon/durable"
)

// The file "identity" holds the id of the spool, a fingerprint of the board it
// was made on and the lock file's place there, and who took what is kept here: a line for the runs that follow
// each other and have one source. A checksum ends it. The file of acks holds the
// runs once more.
//
//	fieldpost identity 1
//	spool "k7m2qx"
//	board "9b1c5e..."
//	place "131074"
//	runs 5 7 "p2k8aa" "east"
//	runs 8 8 "k7m2qx" "west"
//	sum 1c291ca3
const identityName = "identity"

// maxIdentity bounds what is read of it.
const maxIdentity = 1 << 20

var errIdentity = errors.New("identity file is damaged")

// tenure is who took the records of the runs from lo to hi. Between them there
// are none of anybody else, but there may be numbers that no run has had.
type tenure struct {
	lo, hi uint64
	Source
}

// tenures are tenures; a later one is right where two speak of one run.
type tenures []tenure

// of gives the source of a run; ok is false where it is not known.
func (t tenures) of(run uint64) (who Source, ok bool) {
	for _, x := range slices.Backward(t) {
		if x.lo <= run && run <= x.hi {
			return x.Source, true
		}
	}
	return Source{}, false
}

// only gives what is known of these runs, in as few tenures as there can be.
func (t tenures) only(runs map[uint64]bool) tenures {
	var out tenures
	before := false // the run before this one is in the last of out
	for _, run := range slices.Sorted(maps.Keys(runs)) {
		who, known := t.of(run)
		switch n := len(out); {
		case !known:
		case before && out[n-1].Source == who:
			out[n-1].hi = run
		default:
			out = append(out, tenure{run, run, who})
		}
		before = known
	}
	return out
}

// identity is what the file says.
type identity struct {
	spool string // "" where it has none yet
	board string // "" where that was not known
	place string // of the lock file on its file system, which a copy has another of; "" where that was not known
	runs  tenures
}

func (x identity) encode() []byte {
	b := fmt.Appendf(nil, "fieldpost identity 1\nspool %q\nboard %q\nplace %q\n", x.spool, x.board, x.place)
	for _, t := range x.runs {
		b = fmt.Appendf(b, "runs %d %d %q %q\n", t.lo, t.hi, t.Spool, t.Thing)
	}
	return fmt.Appendf(b, "sum %08x\n", durable.Checksum(b))
}

func decodeIdentity(b []byte) (identity, error) {
	lines := strings.Split(string(b), "\n")
	if len(lines) < 6 {
		return identity{}, errIdentity
	}
	var x identity
	if _, err := fmt.Sscanf(strings.Join(lines[1:4], " "), "spool %q board %q place %q", &x.spool, &x.board, &x.place); err != nil {
		return identity{}, errIdentity
	}
	for _, line := range lines[4 : len(lines)-2] {
		var t tenure
		if _, err := fmt.Sscanf(line, "runs %d %d %q %q", &t.lo, &t.hi, &t.Spool, &t.Thing); err != nil {
			return identity{}, errIdentity
		}
		x.runs = append(x.runs, t)
	}
	if string(x.encode()) != string(b) { // the checksum among all else
		return identity{}, errIdentity
	}
	return x, nil
}

// readIdentity reads the file; a spool that has none has the zero identity.
func readIdentity(d disk) (identity, error) {
	b, err := d.Read(identityName, maxIdentity)
	if errors.Is(err, fs.ErrNotExist) {
		return identity{}, nil
	}
	if err != nil {
		return identity{}, fmt.Errorf("read %q: %w", identityName, err)
	}
	return decodeIdentity(b)
}

// idDigits are Crockford's 32 digits, in lower case: none is taken for another.
const idDigits = "0123456789abcdefghjkmnpqrstvwxyz"

// newID makes a spool's id: six digits, so that two of a thousand spools have
// one and the same once in two thousand times.
func newID() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // it never fails
	for i := range b {
		b[i] = idDigits[b[i]%32]
	}
	return string(b[:])
}

// Source is who takes what is appended in this run. Any goroutine.
func (s *Spool) Source() Source { return s.source }

// sourceOf gives who took the records of a run. Of a run of which nothing is
// known, as it was of an earlier version of fieldpost, it is this board under
// its present name. Called with mu held.
func (s *Spool) sourceOf(run uint64) Source {
	if who, known := s.sources.of(run); known {
		return who
	}
	return Source{Thing: s.o.Thing}
}

// adopt takes over what the directory says of who it belongs to. A directory
// that another board has made, one that was copied or restored, and one that knows
// a run as late as this one gets a new id for the next run: somebody may have gone
// on, or go on, from the same run.
func (s *Spool) adopt(f *found) {
	s.w.id = f.identity.spool
	theirs := f.identity.board != "" && s.o.Board != "" && f.identity.board != s.o.Board
	place := s.disk.Place()
	moved := f.identity.place != "" && place != "" && f.identity.place != place
	who, _ := f.sources.of(s.run)
	late := s.run != 0 && s.run <= f.known && !(s.run == f.known && who == s.source)
	switch {
	case s.w.id == "": // also where this run has one: the directory that it had may come back
		s.w.id = newID()
	case theirs || moved || late:
		s.o.Log.Info("spool gets a new id: it was made on another board, or is a copy", "dir", s.o.Dir, "id", s.w.id)
		s.w.id = newID()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sources = append(s.sources, f.sources...)
	if s.run != 0 { // of another run of that number there is no mail
		s.sources = append(s.sources, tenure{s.run, s.run, s.source})
	}
}

// name finds who this run is, once its number is known.
func (s *Spool) name() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.source.Spool == "" {
		s.source = Source{Thing: s.o.Thing, Spool: s.w.id}
		if s.source.Spool == "" {
			s.source.Spool = newID()
		}
	}
	s.sources = append(s.sources, tenure{s.run, s.run, s.source})
}

// identify durably writes who this run is and who took what is kept here, before
// anything of this run is written.
func (s *Spool) identify() error {
	if s.w.identified == s.run {
		return nil
	}
	s.mu.Lock()
	s.sources = s.sources.only(s.mentioned())
	x := identity{s.w.id, s.o.Board, s.disk.Place(), slices.Clone(s.sources)}
	s.mu.Unlock()
	if err := durable.Replace(s.disk, identityName, x.encode()); err != nil {
		return err
	}
	s.w.identified, s.w.place = s.run, x.place
	return nil
}

// mentioned gives the runs whose records, or whose gaps, are here. Called with
// mu held.
func (s *Spool) mentioned() map[uint64]bool {
	runs := map[uint64]bool{s.run: true}
	for _, l := range s.logs {
		for _, e := range l.mem {
			runs[e.run] = true
		}
		for _, g := range l.segs {
			runs[g.run] = true
			for _, x := range g.sums {
				runs[x.run] = true
			}
		}
	}
	for _, x := range s.gaps {
		if h, ok := peek(x.payload); ok {
			runs[h.run] = true
		}
	}
	return runs
}
