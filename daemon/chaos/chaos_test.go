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

// TestChaos injects faults, one after another and several at a time, into a daemon
// process, its network, broker, disk, clock and certificate. Everything that the board
// measured must arrive, or be in a reported gap, or be within what a kill may lose.
//
// FAULTS is the number of faults and SEED the seed of their choice. ONLY limits them to
// those with these words in their names; see `make chaos`. Several boards share them,
// each with its own daemon and broker, because a daemon with a fault mostly waits.
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
	faultsEach = 25 // fewer are not worth another board
	mostBoards = 24
)

// injectFaults injects a number of faults into one board.
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
	t.Cleanup(func() { c.report(all) })
	for n := range faults {
		if all.spoilt.Load() {
			break // another board has failed; this one only ends
		}
		c.injectNext(n)
		if n%settleEvery == settleEvery-1 {
			c.settle()
		}
	}
	c.settle()
	c.stopOrders()
	c.end(syscall.SIGTERM, daemontest.Patience)
	if !c.checker.wait(daemontest.Patience, func() bool { return c.checker.farewell == c.checker.run }) {
		t.Error("no farewell arrived")
	}
	c.readCrashes()
	c.checker.balance("")
	c.failOnProblems()
	if c.hasRace() {
		t.Error("the race detector has found something; see daemon.log")
	}
}

// longestBatch is longer than any batch of readings waits.
const longestBatch = 1500 * time.Millisecond

// quiet is how long nothing of earlier runs comes after all of it has arrived: items in a
// gap without an end may still come.
const quiet = 2 * time.Second

// settleEvery is the number of faults after which all are ended and everything is
// checked.
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

// ongoingFault is a fault that lasts until it is ended.
type ongoingFault struct {
	name string
	left int // faults until it is ended
	heal func()
}

// injectNext ends faults that are due, injects the next one, and lets the daemon work.
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
	c.failOnProblems()
}

func (c *testbed) healPart(part string) {
	x := c.ongoing[part]
	c.note("healed: %s", x.name)
	x.heal()
	delete(c.ongoing, part)
}

// choose draws the next fault from those that are possible now.
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

// proceed waits until n more items were taken, or have arrived.
func (c *testbed) proceed(n int) {
	b := c.checker
	b.mu.Lock()
	taken, got := b.nTaken+n, b.nGot+n
	b.mu.Unlock()
	b.wait(time.Second, func() bool { return b.nTaken >= taken || b.nGot >= got })
}

// settle ends all faults, waits until the daemon has caught up and carries out orders,
// and checks all ended runs.
func (c *testbed) settle() {
	c.t.Helper()
	for _, part := range slices.Sorted(maps.Keys(c.ongoing)) {
		c.healPart(part)
	}
	b := c.checker
	if !b.wait(2*daemontest.Patience, func() bool { return !b.diskDown }) {
		c.t.Fatal("the disk is well, and the daemon does not use it")
	}
	if !b.wait(5*time.Second, func() bool { return b.linked }) {
		c.note("restarted, so as not to wait for the link")
		c.restart() // it may rightly wait for minutes
	}
	mark := c.now() + longestBatch // readings that wait for their batch are sent by then
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
		c.t.Fatalf("all faults have ended, and no new message comes after %v (link up %v, denied %v); the checker's own link: %+v", daemontest.Patience, b.linked, b.denied, c.subscriber.Status())
	}
	// Sensors take turns, so new readings of one say nothing about those of another. An
	// item that has not come by the end of this wait, and is in no gap, is missing.
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
	c.failOnProblems()
}

// dump writes the stacks of all goroutines of the test.
func (c *testbed) dump() {
	buf := make([]byte, 8<<20)
	c.put(filepath.Join(c.dir, "goroutines"), buf[:runtime.Stack(buf, true)])
}

// prove waits until every output has carried out an order sent from now on, and the
// ledger works.
func (c *testbed) prove() {
	c.t.Helper()
	b := c.checker
	b.mu.Lock()
	mark, flooded := b.now(), b.flood
	b.proving = true
	b.wakeLocked()
	b.mu.Unlock()
	proof := func() bool {
		for output := range lines {
			if output != siren && b.proofs[output] < mark {
				return false
			}
		}
		return !b.ledgerDown
	}
	proven := b.wait(daemontest.Patience, proof)
	if !proven && flooded {
		// An order that was only counted is sent again when the flood is over, which is a
		// minute after the last of these.
		b.wait(2*daemontest.Patience, func() bool { return !b.flood })
		proven = b.wait(daemontest.Patience, proof)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.proving = false
	if proven {
		return
	}
	c.dump()
	c.t.Errorf("all faults have ended, and not every output has carried out a new order after %v (ledger failed %v); the checker's own link: %+v", daemontest.Patience, b.ledgerDown, c.subscriber.Status())
	for line, e := range b.current {
		c.t.Errorf("%s: %+v, latest order %v", line, b.levels[line], e)
	}
	c.t.FailNow()
}

// failOnProblems fails the test if anything is wrong.
func (c *testbed) failOnProblems() {
	c.t.Helper()
	c.checker.mu.Lock()
	wrong, n := c.checker.wrong, c.checker.count["wrong"]
	c.checker.mu.Unlock()
	for _, w := range wrong {
		c.t.Error(w)
	}
	if n > 0 {
		c.t.Fatalf("the checker do not balance: %d entries are wrong", n)
	}
}

// note records what was done.
func (c *testbed) note(format string, args ...any) {
	c.story = append(c.story, fmt.Sprintf("%12v  ", c.now())+fmt.Sprintf(format, args...))
	if len(c.story) > 40 {
		c.story = c.story[1:]
	}
}

// report prints what was done if the test failed, and adds up the counts.
func (c *testbed) report(all *tally) {
	if c.t.Failed() {
		all.spoilt.Store(true)
		for _, line := range c.story {
			c.t.Log(line)
		}
	}
	b := c.checker
	b.mu.Lock()
	defer b.mu.Unlock()
	all.weigh(c.memory.Peak())
	b.count["taken"] += b.nTaken
	b.count["arrived"] += b.nGot
	all.add(c.done, b)
}
