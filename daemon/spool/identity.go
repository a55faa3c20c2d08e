package spool

import (
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"fieldpost/daemon/durable"
)

// The identity file contains the id of the spool, a fingerprint of its board, the inode of the
// lock file, and who took the entries: one line for consecutive runs with the same source.
// It ends with a checksum. The ack file has the runs too.
//
//	fieldpost identity 1
//	spool "k7m2qx"
//	board "9b1c5e..."
//	place "131074"
//	runs 5 7 "p2k8aa" "east"
//	runs 8 8 "k7m2qx" "west"
//	sum 1c291ca3
const identityName = "identity"

// maxIdentity bounds what is read of the file.
const maxIdentity = 1 << 20

var errIdentity = errors.New("identity file is damaged")

// runSource says who took the entries of the runs from lo to hi. Nobody else had a run in
// between, but some of the numbers may be unused.
type runSource struct {
	lo, hi uint64
	Source
}

// runSources is a list of them. If two are about the same run, the later one is valid.
type runSources []runSource

// of returns the source of a run. ok is false if it is unknown.
func (t runSources) of(run uint64) (who Source, ok bool) {
	for _, x := range slices.Backward(t) {
		if x.lo <= run && run <= x.hi {
			return x.Source, true
		}
	}
	return Source{}, false
}

// only returns the sources of these runs, in as few elements as possible.
func (t runSources) only(runs map[uint64]bool) runSources {
	var out runSources
	before := false // the run before this one is in the last of out
	for _, run := range slices.Sorted(maps.Keys(runs)) {
		who, known := t.of(run)
		switch n := len(out); {
		case !known:
		case before && out[n-1].Source == who:
			out[n-1].hi = run
		default:
			out = append(out, runSource{run, run, who})
		}
		before = known
	}
	return out
}

// identity is the decoded content of the file.
type identity struct {
	spool string // "" if there is none yet
	board string // "" if unknown
	place string // the place of the lock file on its file system, which differs in a copy; "" if unknown
	runs  runSources
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
		var t runSource
		if _, err := fmt.Sscanf(line, "runs %d %d %q %q", &t.lo, &t.hi, &t.Spool, &t.Thing); err != nil {
			return identity{}, errIdentity
		}
		x.runs = append(x.runs, t)
	}
	if string(x.encode()) != string(b) { // this includes the checksum
		return identity{}, errIdentity
	}
	return x, nil
}

// identityOf decodes what was read of the file. Without a file it returns the zero identity.
func identityOf(x smallFile) (identity, error) {
	switch {
	case x.err != nil:
		return identity{}, fmt.Errorf("%w: %w", errIdentity, x.err)
	case x.data == nil:
		return identity{}, nil
	}
	return decodeIdentity(x.data)
}

// idDigits are Crockford's 32 digits, in lower case. No two of them look alike.
const idDigits = "0123456789abcdefghjkmnpqrstvwxyz"

// newID makes a spool's id: six digits, so that among a thousand spools two have the same id
// once in two thousand times.
func newID() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // it never fails
	for i := range b {
		b[i] = idDigits[b[i]%32]
	}
	return string(b[:])
}

// sourceOfLocked returns who took the entries of a run. If the run is unknown, it is this
// board under its current name.
func (st *store) sourceOfLocked(run uint64) Source {
	if who, known := st.sources.of(run); known {
		return who
	}
	return Source{Thing: st.o.Thing}
}

// adopt takes over the identity of the directory. The directory gets a new id for the next run
// if it was made on another board, was copied or restored, or has a run as late as this one:
// somebody else may continue, or have continued, from the same run.
func (d *directory) adopt(f *found) {
	d.id = f.identity.spool
	st := d.st
	theirs := f.identity.board != "" && d.o.Board != "" && f.identity.board != d.o.Board
	place := d.disk.Place()
	moved := f.identity.place != "" && place != "" && f.identity.place != place
	who, _ := f.sources.of(st.run)
	late := st.run != 0 && st.run <= f.known && !(st.run == f.known && who == st.source)
	switch {
	case d.id == "": // even if this run has one: its earlier directory may come back
		d.id = newID()
	case theirs || moved || late:
		d.o.Log.Info("spool has a new id: it is from another board, or a copy", "dir", d.o.Dir, "id", d.id)
		d.id = newID()
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.sources = append(st.sources, f.sources...)
	if st.run != 0 { // there are no messages of another run with that number
		st.sources = append(st.sources, runSource{st.run, st.run, st.source})
	}
}

// setRun sets the number of this run, and its source: with the id of the directory, if there
// is one.
func (st *store) setRun(run uint64, id string) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.run, st.gaps.run = run, run
	if st.source.Spool == "" {
		if id == "" {
			id = newID()
		}
		st.source = Source{Thing: st.o.Thing, Spool: id}
	}
	st.sources = append(st.sources, runSource{st.run, st.run, st.source})
}

// identify durably writes the identity file, with the source of this run and of all entries.
// It runs before anything else of this run is written.
func (d *directory) identify() error {
	st := d.st
	if d.identified == st.run {
		return nil
	}
	st.mu.Lock()
	st.sources = st.sources.only(st.mentionedRunsLocked())
	x := identity{d.id, d.o.Board, d.disk.Place(), slices.Clone(st.sources)}
	st.mu.Unlock()
	if err := durable.Replace(d.disk, identityName, x.encode()); err != nil {
		return err
	}
	d.identified, d.place = st.run, x.place
	return nil
}

// mentionedRunsLocked returns the runs whose entries, or whose gaps, are here.
func (st *store) mentionedRunsLocked() map[uint64]bool {
	runs := map[uint64]bool{st.run: true}
	for _, l := range st.logs {
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
	st.gaps.runs(runs, func(*owedGap) bool { return true })
	return runs
}
