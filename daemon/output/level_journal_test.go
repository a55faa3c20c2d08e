package output

import (
	"errors"
	"iter"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/journal"
)

// memJournal is a journal in memory that may be damaged, fail or hang.
type memJournal struct {
	mu      sync.Mutex
	entries []string
	damage  journal.Damage
	unread  error
	fail    error
	hang    chan struct{} // writes wait until it is closed; nil: they do not
	writes  int
	size    int64
}

func (j *memJournal) Replay(take func([]byte)) (journal.Damage, error) {
	if j.unread != nil {
		return journal.Damage{}, j.unread
	}
	for _, e := range j.entries {
		take([]byte(e))
	}
	return j.damage, nil
}

func (j *memJournal) write(change func()) error {
	j.mu.Lock()
	hang := j.hang
	j.mu.Unlock()
	if hang != nil {
		<-hang
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.writes++
	if j.fail != nil {
		return j.fail
	}
	change()
	return nil
}

func (j *memJournal) Append(payloads ...[]byte) error {
	return j.write(func() {
		for _, b := range payloads {
			j.entries = append(j.entries, string(b))
		}
	})
}

func (j *memJournal) Rewrite(entries iter.Seq[[]byte]) error {
	return j.write(func() {
		j.entries, j.size = nil, 0
		for b := range entries {
			j.entries = append(j.entries, string(b))
		}
	})
}

func (j *memJournal) Size() int64 { return j.size }

func (j *memJournal) set(change func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	change()
}

// wantLevels checks the contents of the journal, and the number of writes.
func (j *memJournal) wantLevels(t *testing.T, writes int, want ...string) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	if !slices.Equal(j.entries, want) || j.writes != writes {
		t.Errorf("%q after %d writes, want %q after %d", j.entries, j.writes, want, writes)
	}
}

var lamp = Config{Name: "lamp", Pin: "GPIO6", Initial: InitialLast}

// The level is restored after a stop and after a crash. Each change is written once;
// repeated levels and the stop itself are not.
func TestLastLevel(t *testing.T) {
	j := &memJournal{}
	const on, off = `{"output":"lamp","level":"on"}`, `{"output":"lamp","level":"off"}`
	start := func(want Level, use func(n *harness)) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			s := newBoard()
			n := openWith(t, s, Options{Board: s, Levels: j, Outputs: []Config{pump, lamp}})
			n.wantWire("GPIO6", want)
			if h := s.Line("GPIO6").History(); len(h) != 1 || h[0].High != (want == On) {
				t.Errorf("the lamp felt %+v at the start", h)
			}
			stop := n.run()
			use(n)
			synctest.Wait()
			if err := n.bank.Close(); err != nil {
				t.Error(err)
			}
			stop()
			n.wantFaults()
		})
	}
	start(Off, func(n *harness) { n.do("pump", ActionOn, 0) })
	j.wantLevels(t, 0)
	start(Off, func(n *harness) {
		n.do("lamp", ActionOff, 0)
		n.do("lamp", ActionOn, 0)
		n.do("lamp", ActionOn, 0)
	})
	j.wantLevels(t, 1, on)
	start(On, func(n *harness) {
		n.after(time.Hour)
		n.do("lamp", ActionToggle, 0)
		n.after(1)
		n.do("lamp", ActionPulse, 0)
		n.after(time.Second)
	})
	j.wantLevels(t, 4, off, on, off)
	j.entries = append(j.entries, `{"output":"gone","level":"on"}`)
	start(Off, func(n *harness) { n.do("lamp", ActionOn, 0) })
	j.wantLevels(t, 5, on)
	j.size = maxLevels + 1
	start(On, func(n *harness) {
		n.do("lamp", ActionOff, 0)
		n.after(1)
		j.set(func() { j.size = maxLevels + 1 })
		n.do("lamp", ActionOn, 0)
	})
	j.wantLevels(t, 7, on)
}

// If the level cannot be read, the lamp is safe, with a fault until its level is known
// again.
func TestUnreadableLastLevel(t *testing.T) {
	for _, c := range []struct {
		what string
		j    *memJournal
	}{
		{"unreadable", &memJournal{unread: errors.New("input/output error")}},
		{"a hole", &memJournal{damage: journal.Damage{Holes: 1}}},
		{"a torn end", &memJournal{damage: journal.Damage{Tail: 3}}},
		{"not ours", &memJournal{}},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, j := newBoard(), c.j
				j.entries = []string{`{"output":"lamp","level":"on"}`}
				if c.what == "not ours" {
					j.entries = append(j.entries, `{"output":"lamp","level":"dim"}`)
				}
				n := openWith(t, s, Options{Board: s, Levels: j, Outputs: []Config{lamp}})
				defer n.run()()
				n.wantWire("GPIO6", Off)
				n.wantFaults("lamp level_unknown raised")
				n.do("lamp", ActionOn, 0)
				n.after(1)
				n.wantFaults("lamp level_unknown cleared")
				j.wantLevels(t, 1, `{"output":"lamp","level":"on"}`)
			})
		})
	}
}

// A disk that fails or hangs delays no order and no timer. Changes are written when it
// works again.
func TestLastLevelOnABadDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, j := newBoard(), &memJournal{fail: errors.New("no space left")}
		n := openWith(t, s, Options{Board: s, Levels: j, Outputs: []Config{lamp}})
		defer n.run()()
		n.do("lamp", ActionOn, 0)
		n.after(1)
		n.wantFaults("outputs level_unsaved raised")
		j.set(func() { j.fail = nil })
		n.after(retryMost)
		n.wantFaults("outputs level_unsaved cleared")
		j.wantLevels(t, 2, `{"output":"lamp","level":"on"}`)
		hang := make(chan struct{})
		j.set(func() { j.hang = hang })
		for range 5 {
			n.do("lamp", ActionToggle, 0)
			n.after(time.Second)
		}
		n.do("lamp", ActionOn, 10*time.Second)
		n.after(10 * time.Second)
		n.wantWire("GPIO6", Off)
		j.set(func() { j.hang = nil })
		close(hang)
		n.after(1)
		j.wantLevels(t, 4, `{"output":"lamp","level":"on"}`, `{"output":"lamp","level":"off"}`, `{"output":"lamp","level":"off"}`)
	})
}

// Without a safe level and without a stored one, the line keeps its level.
func TestLastLevelUnknownWithSafeKeep(t *testing.T) {
	for _, high := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newBoard()
			s.Line("GPIO6").Drive(high)
			c := lamp
			c.Safe = SafeKeep
			n := openWith(t, s, Options{Board: s, Levels: &memJournal{}, Outputs: []Config{c}})
			n.wantWire("GPIO6", LevelOf(high))
			if st := n.bank.States()[0]; st.Level != LevelOf(high) || st.Err != nil {
				t.Errorf("state %+v", st)
			}
		})
	}
}
