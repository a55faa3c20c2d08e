//go:build chaos && linux

package chaos

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"fieldpost/daemon/daemontest"
)

// TestChaos does harm, one thing after another and several at a time, to a
// daemon in a process of its own, to its network, its broker, its disk, its
// clock and its certificate, and keeps the books: what the board gave must have
// arrived, or be in a gap that was reported, or be within what a kill may cost.
//
// FAULTS says how many things, SEED which, ONLY has just those done whose names
// have these words in them; see `make chaos`. They are shared out
// among several boards, each with a daemon and a broker of its own, since a
// daemon that is being harmed mostly waits.
func TestChaos(t *testing.T) {
	faults, seed := setting(t, "FAULTS", 200), setting(t, "SEED", rand.Uint64N(1_000_000))
	boards := min(max(faults/faultsEach, 1), mostBoards)
	fmt.Printf("chaos: FAULTS=%d SEED=%d on %d boards\n", faults, seed, boards)
	program := buildSimulated(t)
	began, all := time.Now(), tally{limit: daemontest.UnitMemoryMax(t)}
	t.Run("boards", func(t *testing.T) {
		for i := range boards {
			share := (faults + i) / boards
			t.Run(strconv.FormatUint(i, 10), func(t *testing.T) {
				t.Parallel()
				injectFaults(t, program, rand.New(rand.NewPCG(seed, i)), share, &all)
			})
		}
	})
	all.print()
	if t.Failed() {
		t.Logf("again: make chaos FAULTS=%d SEED=%d", faults, seed)
	}
	fmt.Printf("chaos: %d faults with SEED=%d in %v\n", all.done, seed, time.Since(began).Round(time.Second))
}

const (
	faultsEach = 25 // fewer are not worth a board of their own
	mostBoards = 24
)

// injectFaults does so many things to one board.
func injectFaults(t *testing.T, program string, random *rand.Rand, faults uint64, all *tally) {
	dir, err := os.MkdirTemp("", "fieldpost-chaos-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("left to look at: %s", dir)
		} else if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	c := newTestbed(t, program, random, dir)
	t.Cleanup(func() { c.tell(all) })
	for n := range faults {
		if all.spoilt.Load() {
			break // another board has found something; this one only ends
		}
		c.injectNext(n)
		if n%settleEvery == settleEvery-1 {
			c.settle()
		}
	}
	c.settle()
	c.retire()
	c.end(syscall.SIGTERM, daemontest.Patience)
	if !c.books.wait(daemontest.Patience, func() bool { return c.books.farewell == c.books.run }) {
		t.Error("no farewell arrived")
	}
	c.readCrashes()
	c.books.balance("")
	c.judge()
	if c.raced() {
		t.Error("the race detector has found something; see daemon.log")
	}
}

// longestBatch is more than any batch of readings waits to be full.
const longestBatch = 1500 * time.Millisecond

// quiet is for how long nothing of earlier runs comes when all of it has come:
// what lies in a gap without an end may come all the same.
const quiet = 2 * time.Second

// settleEvery is after how many faults all is healed and the books are
// balanced.
const settleEvery = 40

func setting(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s=%q: want a number", name, text)
	}
	return n
}

// ongoingFault is something that is not as it should be.
type ongoingFault struct {
	name string
	left int // faults until it is healed
	heal func()
}

// harm heals what is due, does the next thing, and lets the daemon get on.
func (c *testbed) injectNext(n uint64) {
	for _, part := range slices.Sorted(maps.Keys(c.ongoing)) {
		x := c.ongoing[part]
		if x.left--; x.left <= 0 {
			c.healPart(part)
		}
	}
	m := c.choose()
	c.note("fault %d: %s", n+1, m.name)
	c.done[m.name]++
	lasts := 1 + c.random.IntN(4)
	if heal := m.do(c); heal != nil {
		c.ongoing[m.part] = &ongoingFault{name: m.name, left: lasts, heal: heal}
	}
	c.proceed(5 + c.random.IntN(60))
	c.judge()
}

func (c *testbed) healPart(part string) {
	x := c.ongoing[part]
	c.note("healed: %s", x.name)
	x.heal()
	delete(c.ongoing, part)
}

// choose draws the next thing to do from those that can be done now.
func (c *testbed) choose() fault {
	all := 0
	for _, m := range faults {
		all += m.weight
	}
	for {
		at := c.random.IntN(all)
		for _, m := range faults {
			if at -= m.weight; at < 0 {
				if strings.Contains(m.name, os.Getenv("ONLY")) && c.ongoing[m.part] == nil && (m.can == nil || m.can(c)) {
					return m
				}
				break
			}
		}
	}
}

// proceed waits until so many more were taken, or have arrived.
func (c *testbed) proceed(n int) {
	b := c.books
	b.mu.Lock()
	taken, got := b.nTaken+n, b.nGot+n
	b.mu.Unlock()
	b.wait(time.Second, func() bool { return b.nTaken >= taken || b.nGot >= got })
}

// settle heals all, waits until the daemon has caught up and does what it is
// told, and balances the books of all runs that have ended.
func (c *testbed) settle() {
	c.t.Helper()
	for _, part := range slices.Sorted(maps.Keys(c.ongoing)) {
		c.healPart(part)
	}
	b := c.books
	if !b.wait(2*daemontest.Patience, func() bool { return !b.diskDown }) {
		c.t.Fatal("the disk is well, and the daemon does not use it")
	}
	if !b.wait(5*time.Second, func() bool { return b.linked }) {
		c.note("restarted, so as not to wait for the link")
		c.restart() // it may wait for minutes, and rightly
	}
	mark := c.now() + longestBatch // what waits for its batch has gone by then
	caughtUp := func() bool {
		for _, kind := range []string{"air reading", "soil-0 reading", "soil-1 reading", "soil-2 reading", "door edge"} {
			if b.freshest[kind] <= mark {
				return false
			}
		}
		return true
	}
	if !b.wait(daemontest.Patience, caughtUp) {
		c.dump()
		c.t.Fatalf("all is well, and no new mail comes after %v (link up %v, denied %v); the books' own link: %+v", daemontest.Patience, b.linked, b.denied, c.ears.Status())
	}
	// Sensors take turns, so that new mail of one says nothing of what waits of
	// another. What has not come, and is in no gap, when this has waited is missing.
	var looked time.Duration
	b.wait(daemontest.Patience, func() bool {
		if b.now()-looked < 100*time.Millisecond {
			return false
		}
		looked = b.now()
		return !b.awaits() && looked-b.oldCame > quiet
	})
	c.unretain()
	c.prove()
	b.mu.Lock()
	run := b.run
	b.mu.Unlock()
	c.readCrashes()
	b.balance(run)
	c.broker.TrimLog()
	c.note("settled")
	c.judge()
}

// dump writes down where all goroutines of the books are.
func (c *testbed) dump() {
	buf := make([]byte, 8<<20)
	c.put(filepath.Join(c.dir, "goroutines"), buf[:runtime.Stack(buf, true)])
}

// prove waits until every output has done an order that was sent from now on, and
// the orders are recorded.
func (c *testbed) prove() {
	c.t.Helper()
	b := c.books
	b.mu.Lock()
	mark := b.now()
	b.proving = true
	b.wakeLocked()
	b.mu.Unlock()
	proven := b.wait(daemontest.Patience, func() bool {
		for output := range lines {
			if output != siren && b.proofs[output] < mark {
				return false
			}
		}
		return !b.ledgerDown
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	b.proving = false
	if proven {
		return
	}
	c.dump()
	c.t.Errorf("all is well, and not every output has done a new order after %v (ledger failed %v); the books' own link: %+v", daemontest.Patience, b.ledgerDown, c.ears.Status())
	for line, e := range b.current {
		c.t.Errorf("%s: %+v, latest order %v", line, b.levels[line], e)
	}
	c.t.FailNow()
}

// judge fails the test when the books are wrong.
func (c *testbed) judge() {
	c.t.Helper()
	c.books.mu.Lock()
	wrong, n := c.books.wrong, c.books.count["wrong"]
	c.books.mu.Unlock()
	for _, w := range wrong {
		c.t.Error(w)
	}
	if n > 0 {
		c.t.Fatalf("the books do not balance: %d entries are wrong", n)
	}
}

// note remembers what was done.
func (c *testbed) note(format string, args ...any) {
	c.story = append(c.story, fmt.Sprintf("%12v  ", c.now())+fmt.Sprintf(format, args...))
	if len(c.story) > 40 {
		c.story = c.story[1:]
	}
}

// tell says what was done, if that went wrong, and adds up what came of it.
func (c *testbed) tell(all *tally) {
	if c.t.Failed() {
		all.spoilt.Store(true)
		for _, line := range c.story {
			c.t.Log(line)
		}
	}
	b := c.books
	b.mu.Lock()
	defer b.mu.Unlock()
	all.weigh(c.memory.Peak())
	b.count["taken"] += b.nTaken
	b.count["arrived"] += b.nGot
	all.add(c.done, b)
}
