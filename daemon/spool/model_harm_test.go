package spool

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// harm is what comes to single files while a spool runs.
type harm struct {
	spoils  bool   // there is any
	victim  string // the file that may come to harm; "" are the segments and what is for people
	spoiled bool   // one was spoiled in this run

	mu       sync.Mutex
	rnd      *rand.Rand
	news     []string // files that were spoiled, which the model does not know yet
	spoilIn  int      // one will be after so many operations; 0: none
	diskFull bool     // until it works again
	bad      badFile  // what fails until then
}

// badFile is an operation that fails for one file only.
type badFile struct{ op, name string }

// The same holds where single files are removed, cut, overwritten or fail at any moment. The
// spool goes on writing, and stops in order.
func TestModelWithBadFiles(t *testing.T) { runModels(t, 2000, true, true) }

// chooseVictim decides which files may come to harm. What one file loses another one shows, but
// not if that is spoiled too.
func (m *model) chooseVictim() {
	if k := m.rnd.IntN(9); k < 3 {
		m.victim = []string{runName, ackName, identityName}[k]
	}
}

// fail is what fails of the disk.
func (m *model) fail(op, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.spoilIn > 0 {
		if m.spoilIn--; m.spoilIn == 0 {
			m.spoil()
		}
	}
	if m.bad.op == op && m.bad.name == name {
		return errIO
	}
	if m.diskFull {
		return full(op, name)
	}
	return nil
}

// set changes what fails.
func (m *model) set(diskFull bool, bad badFile) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.diskFull, m.bad = diskFull, bad
	m.failed = m.failed || diskFull || bad != badFile{}
}

// learn takes note of the files that were spoiled.
func (m *model) learn() {
	m.mu.Lock()
	news := m.news
	m.news = nil
	m.mu.Unlock()
	for _, name := range news {
		m.note("spoil %s", name)
		m.spoiled, m.damagedSpool = true, true
		m.blank = m.blank || strings.HasPrefix(name, ackName+" ")
	}
}

// aimAtAFile has a file spoiled, or fail, soon.
func (m *model) aimAtAFile() {
	m.r.s.Verify()
	synctest.Wait()
	switch files := m.victims(m.d.Files("", "")); {
	case m.rnd.IntN(3) == 0:
		n := 1 + m.rnd.IntN(12)
		m.mu.Lock()
		m.spoilIn = n
		m.mu.Unlock()
	case m.rnd.IntN(6) == 0 && len(files) > 0:
		name := files[m.rnd.IntN(len(files))]
		ops := []string{"read"}
		if strings.HasSuffix(name, segmentExt) {
			ops = append(ops, "sync", "datasync", "truncate", "rename", "remove", "add")
		}
		m.set(m.diskFull, badFile{ops[m.rnd.IntN(len(ops))], name})
		m.note("%v fails", m.bad)
		m.damagedSpool = true // what cannot be read counts as damaged, if it is needed
		m.blank = m.blank || m.bad == badFile{"read", ackName}
	}
}

// victims returns which of some files may come to harm.
func (m *model) victims(names []string) []string {
	return slices.DeleteFunc(names, func(name string) bool {
		small := name == runName || name == ackName || name == identityName
		return m.spoils && (m.victim != "" && name != m.victim || m.victim == "" && small)
	})
}

// spoil removes or damages a file while it is in use, between two operations of the disk, whose
// lock is held.
func (m *model) spoil() {
	names := m.victims(slices.Sorted(maps.Keys(m.d.Names)))
	if len(names) == 0 {
		return
	}
	name := names[m.harm.rnd.IntN(len(names))]
	f := m.d.Names[name]
	at := m.harm.rnd.IntN(len(f.B) + 1)
	k := m.harm.rnd.IntN(4)
	switch k {
	case 0:
		delete(m.d.Names, name)
		delete(m.d.Durable, name)
	case 1:
		f.B = append(f.B[:at], 1) // a file in use that is cut between two frames and goes on there looks sound
	case 2:
		clear(f.B[at:])
	default:
		clear(f.B[at:min(at+512, len(f.B))])
	}
	f.Good = min(f.Good, len(f.B))
	m.news = append(m.news, fmt.Sprintf("%s at %d, %d", name, at, k))
}

// recovers checks that the spool writes what it has, whatever happened to its files.
func (m *model) recovers() {
	m.r.s.Verify()
	wait(3 * time.Minute)
	if n, st := m.r.s.Backlog().AtRisk, m.r.s.Stats(); n > 0 || !st.Disk {
		m.fatalf("%d are at risk, %+v: %s", n, st, m.r.detail)
	}
}

// drain takes everything, also what can only be read when it has been tried again.
func (m *model) drain() []itemRecord {
	items := m.r.takeItems(all)
	for range 8 {
		if m.spoils {
			wait(time.Second)
			items = append(items, m.r.takeItems(all)...)
		}
	}
	return items
}
