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

// Every fault says in full what it means and what to do, and has its own code.
func TestFaultsAreComplete(t *testing.T) {
	seen := map[Code]bool{}
	for _, f := range Faults {
		if seen[f.Code] {
			t.Errorf("%s is registered twice", f.Code)
		}
		seen[f.Code] = true
		if f.Title == "" || !strings.HasSuffix(f.Means, ".") || !strings.HasSuffix(f.Do, ".") {
			t.Errorf("%s is incomplete: %+v", f.Code, f)
		}
	}
	if got := Lookup("nonsense"); got.Code != "nonsense" || !strings.Contains(got.Means, "Unregistered") {
		t.Errorf("lookup of an unregistered code gives %+v", got)
	}
}

func TestProgressNeedsEveryLoop(t *testing.T) {
	var p Progress
	if _, ok := p.Take(); !ok {
		t.Error("no loops: want progress")
	}
	a, b := p.Loop("scheduler"), p.Loop("link")
	if _, ok := p.Take(); !ok {
		t.Error("fresh loops: want progress")
	}
	a.Turn()
	if stuck, ok := p.Take(); ok || stuck != "link" {
		t.Errorf("got %q %v, want link stuck", stuck, ok)
	}
	b.Turn()
	if stuck, ok := p.Take(); !ok {
		t.Errorf("%q is stuck, want progress", stuck)
	}
	b.End()
	a.Turn()
	if _, ok := p.Take(); !ok {
		t.Error("an ended loop: want progress")
	}
	a.Turn()
	if _, ok := p.Take(); !ok {
		t.Error("a loop that has ended must stay out of account")
	}
	var none *Loop
	none.Turn()
	none.End()
}

func TestIdleNamesTheLoopThatIsBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p Progress
		if loop, idle := p.Idle(); loop != "" || idle != 0 {
			t.Errorf("no loops: %q %v", loop, idle)
		}
		a, b := p.Loop("scheduler"), p.Loop("link")
		<-time.After(3 * time.Second)
		a.Turn()
		<-time.After(4 * time.Second)
		if loop, idle := p.Idle(); loop != "link" || idle != 7*time.Second {
			t.Errorf("got %q %v, want link 7s", loop, idle)
		}
		b.End()
		if loop, idle := p.Idle(); loop != "scheduler" || idle != 4*time.Second {
			t.Errorf("got %q %v, want scheduler 4s", loop, idle)
		}
		a.End()
		if loop, idle := p.Idle(); loop != "" || idle != 0 {
			t.Errorf("all ended: %q %v", loop, idle)
		}
	})
}
