package command

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
	"fieldpost/daemon/journal"
	"fieldpost/daemon/spool"
)

// ledgerRun is a running dispatcher with its ledger. It records faults and answers.
type ledgerRun struct {
	*harness // its mu also guards the faults and the clock
	stop     func()
	faults   []string
	stamp    func(clock.Stamp) clock.Stamp // changes the clock's stamps; may be nil
}

// newLedgerRun opens a dispatcher on a journal and ends the one before. base is the clock
// that boots share.
func newLedgerRun(t *testing.T, j journal.Storage, base clock.Clock) *ledgerRun {
	t.Helper()
	return newLedgerRunWith(t, j, nil, base)
}

// newLedgerRunWith is newLedgerRun with a runtime journal. before is called before the
// dispatcher is opened.
func newLedgerRunWith(t *testing.T, j, runtime journal.Storage, base clock.Clock, before ...func(run *ledgerRun)) *ledgerRun {
	t.Helper()
	run := &ledgerRun{harness: &harness{t: t, pins: newPins()}}
	if j, ok := j.(*memJournal); ok {
		j.mu.Lock()
		before := j.stop
		j.mu.Unlock()
		if before != nil {
			before()
		}
		j.stop = func() { run.stop() }
	}
	for _, fn := range before {
		fn(run)
	}
	run.dispatcher = New(Options{
		Thing: thing, Topic: orders, MaxLife: time.Hour, Outputs: run.pins, Journal: j, RuntimeJournal: runtime,
		Health: health.New(func(c health.Change) {
			run.mu.Lock()
			defer run.mu.Unlock()
			run.faults = append(run.faults, fmt.Sprintf("%s %s", c.Fault.Code, c.State()))
		}),
		Clock: clock.Func(func() clock.Stamp {
			run.mu.Lock()
			defer run.mu.Unlock()
			s := base.Now()
			s.Wall, s.Synced = s.Wall.Add(run.ahead), !run.unsynced
			if run.stamp != nil {
				s = run.stamp(s)
			}
			return s
		}),
		Answer: run.answered,
	})
	run.stop = run.work()
	return run
}

// set changes the clock.
func (run *ledgerRun) set(change func()) {
	run.mu.Lock()
	defer run.mu.Unlock()
	change()
}

// unsolicited returns the answers that no message of this run has asked for.
func (run *ledgerRun) unsolicited() (out []string) {
	run.mu.Lock()
	defer run.mu.Unlock()
	for _, r := range run.sent {
		line := ""
		for _, x := range r.Fields {
			if x.Name != "hint" {
				line += fmt.Sprint(x.Value, " ")
			} else if x.Value == "" {
				run.t.Errorf("answer %+v has an empty hint", r)
			}
		}
		out = append(out, strings.TrimSpace(line))
	}
	run.sent = nil
	return out
}

func (run *ledgerRun) want(faults ...string) {
	run.t.Helper()
	run.mu.Lock()
	defer run.mu.Unlock()
	if !slices.Equal(run.faults, faults) {
		run.t.Errorf("told faults %q, want %q", run.faults, faults)
	}
	run.faults = nil
}

// opened returns the journal of a real directory, until the test or the spool ends.
func opened(t *testing.T, dir string) (*journal.File, *spool.Spool) {
	t.Helper()
	s, err := spool.Open(spool.Options{Dir: dir, Clock: clock.Fake()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // may be closed already, or have no directory
	return s.Journal("orders"), s
}
