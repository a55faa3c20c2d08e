package health

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestOnlyChangesAreTold(t *testing.T) {
	var told []string
	h := New(func(c Change) { told = append(told, c.Subject+" "+string(c.Fault.Code)+" "+c.State()+" "+c.Detail) })
	h.Clear(NoAnswer, "air")
	h.Raise(NoAnswer, "air", "first")
	h.Raise(NoAnswer, "air", "second")
	h.Raise(NetworkDown, "broker", "no route")
	h.Clear(NoAnswer, "air")
	h.Clear(NoAnswer, "air")
	want := []string{"air no_answer raised first", "broker network_down raised no route", "air no_answer cleared second"}
	if !slices.Equal(told, want) {
		t.Errorf("told\n%q, want\n%q", told, want)
	}
}

// A fault is as old as its first raising.
func TestSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cleared Change
		h := New(func(c Change) { cleared = c })
		start := time.Now()
		h.Raise(NoAnswer, "air", "first")
		<-time.After(time.Minute)
		h.Raise(NoAnswer, "air", "second")
		if c := h.Current()[0]; !c.Since.Equal(start) || c.Detail != "second" {
			t.Errorf("after a minute: %+v", c)
		}
		h.Clear(NoAnswer, "air")
		if !cleared.Since.Equal(start) {
			t.Errorf("cleared: %+v", cleared)
		}
		h.Raise(NoAnswer, "air", "again")
		if c := h.Current()[0]; c.Since.Sub(start) != time.Minute {
			t.Errorf("raised again: %+v", c)
		}
	})
}

func TestClearAll(t *testing.T) {
	cleared := 0
	h := New(func(c Change) {
		if !c.Raised {
			cleared++
		}
	})
	h.Raise(NoAnswer, "air", "")
	h.Raise(WrongAnswer, "air", "")
	h.Raise(EdgesLost, "air", "")
	h.Raise(NoAnswer, "soil", "")
	h.ClearAll("air", NoAnswer, WrongAnswer)
	if cleared != 2 || len(h.Current()) != 2 {
		t.Errorf("cleared %d, current %v; want 2 cleared and 2 left", cleared, h.Current())
	}
	h.ClearAll("air")
	if got := h.Current(); len(got) != 1 || got[0].Subject != "soil" {
		t.Errorf("current %v, want soil's only", got)
	}
}

func TestSummary(t *testing.T) {
	h := New(func(Change) {})
	if got := h.Summary(); got != "all well" {
		t.Errorf("summary %q", got)
	}
	h.Raise(NetworkDown, "broker", "")
	h.Raise(NoAnswer, "air", "")
	if got, want := h.Summary(), "air: does not answer; broker: broker cannot be reached"; got != want {
		t.Errorf("summary %q, want %q", got, want)
	}
}

// A fault that another explains is not told while that one is raised, whatever
// comes of it meanwhile; when it is raised again after that, it is.
func TestExplainedFaultsAreNotTold(t *testing.T) {
	var told []string
	h := New(func(c Change) { told = append(told, c.Subject+" "+string(c.Fault.Code)+" "+c.State()) })
	h.Know([]Subject{{Name: "air", Kind: Sensor, Place: OnBus, On: "i2c-1"}, {Name: "soil", Kind: Sensor, Place: OnBus, On: "i2c-1"}, {Name: "far", Kind: Sensor, Place: OnBus, On: "i2c-2"}})
	want := func(what string, all ...string) {
		t.Helper()
		if !slices.Equal(told, all) {
			t.Errorf("%s: told\n%q, want\n%q", what, told, all)
		}
		told = nil
	}
	h.Raise(NoAnswer, "air", "before")
	h.Raise(BusStuck, "i2c-1", "")
	want("before", "air no_answer raised", "i2c-1 bus_stuck raised")
	h.Raise(NoAnswer, "soil", "")
	h.Raise(ReadFailed, "air", "")
	h.Raise(EdgesLost, "soil", "")
	h.Raise(NoAnswer, "far", "")
	h.Clear(ReadFailed, "air")
	want("while it is stuck", "soil edges_lost raised", "far no_answer raised")
	if got, want := h.Summary(), "far: does not answer; i2c-1: bus is stuck; soil: changes too fast to follow"; got != want {
		t.Errorf("summary %q, want %q", got, want)
	}
	for _, e := range h.Current() {
		explained := e.Fault.Code == NoAnswer && e.Subject != "far"
		if got := e.By != nil; got != explained || explained && (e.By.Subject != "i2c-1" || e.By.Fault.Code != BusStuck) {
			t.Errorf("%s %s is explained by %+v", e.Subject, e.Fault.Code, e.By)
		}
	}
	h.Clear(NoAnswer, "air")
	h.Clear(BusStuck, "i2c-1")
	want("moving again", "air no_answer cleared", "i2c-1 bus_stuck cleared")
	h.Raise(NoAnswer, "soil", "still")
	h.Raise(NoAnswer, "soil", "still")
	h.Clear(NoAnswer, "soil")
	want("after it", "soil no_answer raised", "soil no_answer cleared")

	h.Raise(NetworkDown, "broker", "")
	h.Raise(SubscribeDenied, "broker", "of the connection before")
	h.Clear(SubscribeDenied, "broker")
	h.Raise(NetworkDown, "elsewhere", "")
	h.Clear(NetworkDown, "broker")
	h.Raise(SubscribeDenied, "broker", "")
	want("broker", "broker network_down raised", "elsewhere network_down raised", "broker network_down cleared", "broker subscribe_denied raised")
}

// A change says what kind of thing it is about, what is on it, and what to do there.
func TestSubjects(t *testing.T) {
	var last Change
	h := New(func(c Change) { last = c })
	h.Know([]Subject{{Name: "air", Kind: Sensor, Place: OnBus, On: "i2c-1"}, {Name: "fan", Kind: Output, Place: OnLine}, {Name: "an", Kind: Sensor, Place: OnBus, On: "i2c-1"}})
	for _, tc := range []struct {
		subject string
		kind    Kind
		upon    string
		cure    string
	}{
		{"air", Sensor, "", "/dev/i2c-*"},
		{"fan", Output, "", "gpioinfo"},
		{"i2c-1", Part, "air an", Lookup(Absent).Cure},
		{"", Part, "", Lookup(Absent).Cure},
	} {
		h.Raise(Absent, tc.subject, "")
		if last.Subject != tc.subject || last.Kind != tc.kind || strings.Join(last.Upon, " ") != tc.upon || !strings.Contains(last.Cure, tc.cure) || h.CureOf(Absent, tc.subject) != last.Cure {
			t.Errorf("%q: %+v", tc.subject, last)
		}
	}
	h.RaiseFor(Denied, "fan", "", "do this")
	if last.Cure != "do this" {
		t.Errorf("with a cure of its own: %+v", last)
	}
	h.Know(nil)
	h.Raise(LineBusy, "fan", "")
	if last.Kind != Part {
		t.Errorf("what is known no more: %+v", last)
	}
}

func TestNilHealth(t *testing.T) {
	var h *Health
	h.Know([]Subject{{Name: "air"}})
	h.Raise(NoAnswer, "air", "")
	h.RaiseFor(NoAnswer, "air", "", "do this")
	h.Clear(NoAnswer, "air")
	h.ClearAll("air")
	if h.Current() != nil || h.Summary() != "all well" || h.CureOf(NoAnswer, "air") != Lookup(NoAnswer).Cure {
		t.Error("a nil Health has something wrong")
	}
}

func TestCheckNeedsEveryLoop(t *testing.T) {
	var h Heartbeats
	if _, ok := h.Check(); !ok {
		t.Error("no loops: none can be stuck")
	}
	a, b := h.Register("scheduler"), h.Register("link")
	if _, ok := h.Check(); !ok {
		t.Error("fresh loops: want all to count as beating")
	}
	a.Beat()
	if stuck, ok := h.Check(); ok || stuck != "link" {
		t.Errorf("got %q %v, want link stuck", stuck, ok)
	}
	b.Beat()
	if stuck, ok := h.Check(); !ok {
		t.Errorf("%q is stuck, want none", stuck)
	}
	b.End()
	a.Beat()
	if _, ok := h.Check(); !ok {
		t.Error("an ended loop counts as stuck")
	}
	a.Beat()
	if _, ok := h.Check(); !ok {
		t.Error("a loop that has ended must not count")
	}
	var none *Heartbeat
	none.Beat()
	none.End()
}

func TestSlowestNamesTheLoopThatIsBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h Heartbeats
		if loop, idle := h.Slowest(); loop != "" || idle != 0 {
			t.Errorf("no loops: %q %v", loop, idle)
		}
		a, b := h.Register("scheduler"), h.Register("link")
		<-time.After(3 * time.Second)
		a.Beat()
		<-time.After(4 * time.Second)
		if loop, idle := h.Slowest(); loop != "link" || idle != 7*time.Second {
			t.Errorf("got %q %v, want link 7s", loop, idle)
		}
		b.End()
		if loop, idle := h.Slowest(); loop != "scheduler" || idle != 4*time.Second {
			t.Errorf("got %q %v, want scheduler 4s", loop, idle)
		}
		a.End()
		if loop, idle := h.Slowest(); loop != "" || idle != 0 {
			t.Errorf("all ended: %q %v", loop, idle)
		}
	})
}
