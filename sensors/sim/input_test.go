package sim

import (
	"errors"
	"os"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/sensors/board"
)

func input1(t *testing.T, b *Board, c board.InputConfig) board.Input {
	t.Helper()
	in, err := b.Input(c)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// drain receives the edges that wait.
func drain(in board.Input) (edges []board.Edge) {
	for {
		select {
		case e, more := <-in.Edges():
			if !more {
				return edges
			}
			edges = append(edges, e)
		default:
			return edges
		}
	}
}

func TestInputLevels(t *testing.T) {
	for _, c := range []struct {
		pull      board.Pull
		activeLow bool
		floating  bool // active while nothing drives the line
	}{
		{board.PullAsIs, false, false}, {board.PullNone, false, false},
		{board.PullDown, false, false}, {board.PullUp, false, true},
		{board.PullUp, true, false}, {board.PullDown, true, true},
	} {
		b := New()
		l := b.Line("GPIO17")
		in := input1(t, b, board.InputConfig{Line: "GPIO17", Pull: c.pull, ActiveLow: c.activeLow})
		expect := func(what string, want bool) {
			if got, err := in.Active(); err != nil || got != want {
				t.Errorf("pull %q, active low %v, %s: %v, %v, want %v", c.pull, c.activeLow, what, got, err, want)
			}
		}
		expect("floating", c.floating)
		l.Drive(true)
		expect("high", !c.activeLow)
		l.Drive(false)
		expect("low", c.activeLow)
		l.Float()
		expect("floating again", c.floating)
		if edges := drain(in); len(edges) != 2 {
			t.Errorf("pull %q, active low %v: edges %v, want two", c.pull, c.activeLow, edges)
		}
	}
}

func TestEdgeTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New()
		l := b.Line("GPIO17")
		l.Drive(true)
		in := input1(t, b, board.InputConfig{Line: "GPIO17"})
		<-time.After(3 * time.Second)
		l.Drive(false)
		l.Drive(false)
		<-time.After(time.Second)
		l.Drive(true)
		want := []board.Edge{{Active: false, Mono: 3 * time.Second}, {Active: true, Mono: 4 * time.Second}}
		if got := drain(in); !slices.Equal(got, want) {
			t.Errorf("edges %v, want %v", got, want)
		}
		b.SetMono(func() time.Duration { return time.Hour })
		l.Drive(false)
		if e := <-in.Edges(); e.Mono != time.Hour {
			t.Errorf("edge at %v on another clock", e.Mono)
		}
	})
}

func TestDebounce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New()
		l := b.Line("GPIO17")
		in := input1(t, b, board.InputConfig{Line: "GPIO17", Pull: board.PullUp, ActiveLow: true, Debounce: 20 * time.Millisecond})
		after := func(d time.Duration, high bool) {
			<-time.After(d)
			l.Drive(high)
		}
		after(time.Second, false) // the contact closes and bounces
		after(5*time.Millisecond, true)
		after(time.Millisecond, false)
		after(19*time.Millisecond, true)
		after(time.Millisecond, false) // from here it holds, at 1026 ms
		if active, err := in.Active(); err != nil || active {
			t.Errorf("active %v, %v while bouncing", active, err)
		}
		<-time.After(time.Second)
		if active, err := in.Active(); err != nil || !active {
			t.Errorf("active %v, %v after bouncing", active, err)
		}
		after(0, true) // a glitch
		after(10*time.Millisecond, false)
		<-time.After(time.Second)
		want := []board.Edge{{Active: true, Mono: 1046 * time.Millisecond}}
		if got := drain(in); !slices.Equal(got, want) {
			t.Errorf("edges %v, want %v", got, want)
		}
	})
}

// A change that is being debounced when the line is closed, and one after that, are
// ignored.
func TestCloseWhileBouncing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New()
		l := b.Line("GPIO17")
		in := input1(t, b, board.InputConfig{Line: "GPIO17", Debounce: 20 * time.Millisecond})
		l.Drive(true)
		if err := in.Close(); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Second)
		l.Drive(false)
		if e, open := <-in.Edges(); open {
			t.Errorf("edge %v after close", e)
		}
		if err := in.Close(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("second close: %v", err)
		}
		if _, err := in.Active(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("read after close: %v", err)
		}
	})
}

func TestLostEdges(t *testing.T) {
	b := New()
	l := b.Line("GPIO17")
	in := input1(t, b, board.InputConfig{Line: "GPIO17"})
	total := queue + 10
	for i := range total {
		l.Drive(i%2 == 0)
	}
	edges := drain(in)
	lost := 0
	for _, e := range edges {
		lost += int(e.Lost)
	}
	if len(edges) != queue || lost != 10 {
		t.Errorf("%d edges and %d lost of %d", len(edges), lost, total)
	}
	if last := edges[len(edges)-1]; last.Active {
		t.Error("the newest edge was lost")
	}
}

func TestNegativeDebounce(t *testing.T) {
	if _, err := New().Input(board.InputConfig{Line: "GPIO17", Debounce: -1}); err == nil {
		t.Error("a negative debounce is accepted")
	}
}

// The edges of a reader wait until they are read; of too many the latest are kept, and the
// others counted.
func TestEdgeReader(t *testing.T) {
	b := New()
	l := b.Line("GPIO17")
	r, err := b.EdgeReader(board.InputConfig{Line: "GPIO17"})
	if err != nil {
		t.Fatal(err)
	}
	sum := func() (n int) {
		edges, err := r.Read(nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range edges {
			n += 1 + int(e.Lost)
		}
		return n
	}
	if n := sum(); n != 0 {
		t.Errorf("%d edges on a still line", n)
	}
	for i := range 1001 {
		l.Drive(i%2 == 0)
	}
	if n := sum(); n != 1001 {
		t.Errorf("%d edges, want 1001", n)
	}
	l.Fail(syscall.ENODEV)
	if _, err := r.Read(nil); !errors.Is(err, syscall.ENODEV) {
		t.Errorf("a line that fails: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := r.Read(nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after close: %v", err)
	}
}
