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

// office is a desk at work, with its ledger, and all that it told.
type office struct {
	*bench // whose mu guards faults and what the clock says too
	stop   func()
	faults []string
	stamp  func(clock.Stamp) clock.Stamp // changes what the clock says; nil leaves it
}

// newOffice opens a desk on a journal, in the place of the one before. base is
// what boots share: their clock.
func newOffice(t *testing.T, j journal.Storage, base clock.Clock) *office {
	t.Helper()
	return newOfficeBeside(t, j, nil, base)
}

// newOfficeBeside is newOffice with a fallback journal. before is called when
// the desk is about to be opened.
func newOfficeBeside(t *testing.T, j, fallback journal.Storage, base clock.Clock, before ...func(f *office)) *office {
	t.Helper()
	f := &office{bench: &bench{t: t, pins: newPins()}}
	if p, ok := j.(*paper); ok {
		p.mu.Lock()
		before := p.stop
		p.mu.Unlock()
		if before != nil {
			before()
		}
		p.stop = func() { f.stop() }
	}
	for _, fn := range before {
		fn(f)
	}
	f.desk = New(Options{
		Thing: thing, Topic: orders, MaxLife: time.Hour, Outputs: f.pins, Journal: j, Fallback: fallback,
		Health: health.New(func(c health.Change) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.faults = append(f.faults, fmt.Sprintf("%s %s", c.Fault.Code, c.State()))
		}),
		Clock: clock.Func(func() clock.Stamp {
			f.mu.Lock()
			defer f.mu.Unlock()
			s := base.Now()
			s.Wall, s.Synced = s.Wall.Add(f.ahead), !f.unsynced
			if f.stamp != nil {
				s = f.stamp(s)
			}
			return s
		}),
		Answer: f.answered,
	})
	f.stop = f.work()
	return f
}

// set changes what the clock says.
func (f *office) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// told gives the answers that were sent without being asked for.
func (f *office) told() (out []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.sent {
		line := ""
		for _, x := range r.Fields {
			if x.Name != "hint" {
				line += fmt.Sprint(x.Value, " ")
			} else if x.Value == "" {
				f.t.Errorf("answer %+v has an empty hint", r)
			}
		}
		out = append(out, strings.TrimSpace(line))
	}
	f.sent = nil
	return out
}

func (f *office) want(faults ...string) {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Equal(f.faults, faults) {
		f.t.Errorf("told faults %q, want %q", f.faults, faults)
	}
	f.faults = nil
}

// opened is the journal of a real directory, until the test or the spool ends.
func opened(t *testing.T, dir string) (*journal.File, *spool.Spool) {
	t.Helper()
	s, err := spool.Open(spool.Options{Dir: dir, Clock: clock.Fake()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // closed before, or of no directory
	return s.Journal("orders"), s
}
