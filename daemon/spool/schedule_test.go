package spool

import (
	"strings"
	"testing"

	"fieldpost/daemon/wake"
)

// scheduleRig is a scheduler, and what its flows have to give.
type scheduleRig struct {
	scheduler
	events *flow
	has    map[*flow]availability
}

func newScheduleRig() *scheduleRig {
	r := &scheduleRig{scheduler: scheduler{ready: wake.New(), read: wake.New()}, events: &flow{class: Events}, has: map[*flow]availability{}}
	return r
}

func (r *scheduleRig) add(c Class, sensor string, has availability) *flow {
	f := &flow{class: c, sensor: sensor}
	r.has[f] = has
	r.enqueue(f)
	return f
}

// turns returns whose the next n turns are, each of which takes so many bytes.
func (r *scheduleRig) turns(n, size int) string {
	var out []string
	for range n {
		f := r.next(r.events, func(f *flow) availability { return r.has[f] }, func() bool { return false })
		if f == nil {
			out = append(out, "-")
			continue
		}
		name := f.sensor
		if f == r.events {
			name = "events"
		} else if f.class == Edges {
			name += "!"
		}
		out = append(out, name)
		r.endTurn(f, make([]byte, size), 0)
	}
	return strings.Join(out, " ")
}

func (r *scheduleRig) wantsRead() bool {
	select {
	case <-r.read.C():
		return true
	default:
		return false
	}
}

func TestFlowsTakeTurns(t *testing.T) {
	r := newScheduleRig()
	r.add(Samples, "a", available)
	b := r.add(Samples, "b", available)
	r.add(Edges, "a", available)
	if got := r.turns(6, 10); got != "a! a b a! a b" {
		t.Errorf("turns %s", got)
	}
	r.has[b] = notSynced // what is not to be given yet does not hold up the others
	if got := r.turns(4, 10); got != "a! a a! a" {
		t.Errorf("without b: %s", got)
	}
	r.has[b] = available // and catches up no more than a little
	if got := r.turns(8, 4000); strings.Count(got, "b") > 5 || !strings.HasPrefix(got, "b") {
		t.Errorf("b waited: %s", got)
	}
	if r.wantsRead() {
		t.Error("nothing is to be read")
	}
}

// Whoever had nothing saves nothing up.
func TestANewFlowBeginsWithTheOthers(t *testing.T) {
	r := newScheduleRig()
	r.add(Samples, "a", available)
	r.turns(1000, 1000)
	r.add(Samples, "b", available)
	if got := r.turns(4, 1000); got != "b a b a" && got != "b b a b" {
		t.Errorf("turns %s", got)
	}
}

func TestEventsGoFirstAndLeaveAShare(t *testing.T) {
	r := newScheduleRig()
	r.has[r.events] = available
	if got := r.turns(5, 10); got != "events events events events events" {
		t.Errorf("alone: %s", got)
	}
	r.reset()
	r.add(Samples, "a", available)
	if got := r.turns(8, 10); got != "events events events a events events events a" {
		t.Errorf("turns %s", got)
	}
	r.has[r.events] = unread // on disk: what comes later does not go before it
	if got := r.turns(1, 10); got != "-" || !r.wantsRead() {
		t.Errorf("turn %s", got)
	}
}

// What is to be read first is asked for, and does not hold up others; a flow that has
// nothing leaves.
func TestWhatIsUnreadIsAskedFor(t *testing.T) {
	r := newScheduleRig()
	a := r.add(Samples, "a", unread)
	b := r.add(Samples, "b", available)
	if got := r.turns(2, 10); got != "b b" || !r.wantsRead() || !a.queued {
		t.Errorf("turns %s, a waits %v", got, a.queued)
	}
	r.has[a], r.has[b] = nothing, nothing
	if got := r.turns(1, 10); got != "-" || a.queued || b.queued || len(r.active) != 0 {
		t.Errorf("turn %s, %d wait", got, len(r.active))
	}
}
