package sim

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/sensors/board"
)

func TestFind(t *testing.T) {
	b := New()
	want := board.LineID{Label: Label, Chip: "gpiochip0", Offset: 17, Name: "GPIO17"}
	for _, name := range []string{"GPIO17", "17", "P1_11", "gpiochip0:17", "fieldpost-sim:17"} {
		if id, err := b.Find(name); err != nil || id != want {
			t.Errorf("Find(%q) = %v, %v", name, id, err)
		}
	}
	for _, name := range []string{"GPIO28", "gpiochip1:3", "fieldpost-sim:28", "PIN_LED"} {
		if _, err := b.Find(name); !errors.Is(err, board.ErrAbsent) {
			t.Errorf("Find(%q): %v, want ErrAbsent", name, err)
		}
	}
	for _, name := range []string{"", "-1", "P1_1"} {
		if _, err := b.Find(name); err == nil || errors.Is(err, board.ErrAbsent) {
			t.Errorf("Find(%q): %v, want another refusal", name, err)
		}
	}
}

func request(t *testing.T, b *Board, c board.OutputConfig) board.Output {
	t.Helper()
	o, err := b.Output(c)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func set(t *testing.T, o board.Output, active bool) {
	t.Helper()
	if err := o.Set(active); err != nil {
		t.Fatal(err)
	}
	if got, err := o.Active(); err != nil || got != active {
		t.Errorf("reads back %v, %v, want %v", got, err, active)
	}
}

// levels returns the history without its times.
func levels(l *Line) (s []Change) {
	for _, c := range l.History() {
		c.At = 0
		s = append(s, c)
	}
	return s
}

// An active-low relay is low only while it is on.
func TestOutputHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New()
		l := b.Line("GPIO27")
		l.SetPull(board.PullUp)
		o := request(t, b, board.OutputConfig{Line: "GPIO27", ActiveLow: true})
		<-time.After(time.Second)
		set(t, o, true)
		set(t, o, true)
		set(t, o, false)
		if err := o.Close(); err != nil {
			t.Fatal(err)
		}
		want := []Change{
			{High: true},
			{High: true, Driven: true},
			{High: false, Driven: true, At: time.Second},
			{High: true, Driven: true, At: time.Second},
			{High: true, At: time.Second},
		}
		if got := l.History(); !slices.Equal(got, want) {
			t.Errorf("history %v, want %v", got, want)
		}
	})
}

// An output that keeps its level is driven at the level of the wire.
func TestOutputKeepsTheLevel(t *testing.T) {
	for _, high := range []bool{false, true} {
		b := New()
		b.Line("GPIO5").Drive(high)
		o := request(t, b, board.OutputConfig{Line: "GPIO5", ActiveLow: true, Keep: true, Active: high})
		if now, driven := b.Line("GPIO5").Level(); now != high || !driven {
			t.Errorf("high %v, driven %v; want %v, driven", now, driven, high)
		}
		if active, err := o.Active(); err != nil || active == high {
			t.Errorf("active %v, %v on an active-low line that is high %v", active, err, high)
		}
	}
}

func TestRelease(t *testing.T) {
	for _, keep := range []bool{false, true} {
		b := New()
		b.KeepOnRelease(keep)
		l := b.Line("GPIO5")
		o := request(t, b, board.OutputConfig{Line: "5", Active: true})
		if err := o.Close(); err != nil {
			t.Fatal(err)
		}
		if err := o.Close(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("second close: %v", err)
		}
		if err := o.Set(false); !errors.Is(err, os.ErrClosed) {
			t.Errorf("set after close: %v", err)
		}
		if high, driven := l.Level(); high != keep || driven != keep {
			t.Errorf("keep %v: after release high %v, driven %v", keep, high, driven)
		}
		in, err := b.Input(board.InputConfig{Line: "5"})
		if err != nil {
			t.Fatal(err)
		}
		if active, err := in.Active(); err != nil || active {
			t.Errorf("keep %v: as an input reads %v, %v, want its pull", keep, active, err)
		}
	}
}

func TestCrash(t *testing.T) {
	b := New()
	o := request(t, b, board.OutputConfig{Line: "GPIO5", Active: true})
	in, err := b.Input(board.InputConfig{Line: "GPIO6"})
	if err != nil {
		t.Fatal(err)
	}
	b.Crash()
	if high, driven := b.Line("GPIO5").Level(); high || driven {
		t.Errorf("after a crash high %v, driven %v", high, driven)
	}
	if err := o.Set(true); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the output after the crash: %v", err)
	}
	if _, open := <-in.Edges(); open {
		t.Error("edges come after the crash")
	}
	request(t, b, board.OutputConfig{Line: "GPIO5"})
	request(t, b, board.OutputConfig{Line: "GPIO6"})
}

func TestDrives(t *testing.T) {
	b := New()
	l := b.Line("GPIO4")
	o := request(t, b, board.OutputConfig{Line: "GPIO4", Drive: board.OpenDrain, Active: true})
	l.SetPull(board.PullUp)
	set(t, o, true)
	set(t, o, false)
	o.Close()
	o = request(t, b, board.OutputConfig{Line: "GPIO4", Drive: board.OpenSource, Active: true})
	l.SetPull(board.PullDown)
	set(t, o, false)
	o.Close()
	want := []Change{
		{High: true},                // the pull-up
		{High: false, Driven: true}, // open drain pulls low
		{High: true},                // let go
		{High: true, Driven: true},  // open source
		{},                          // let go
	}
	if got := levels(l); !slices.Equal(got, want) {
		t.Errorf("history %v, want %v", got, want)
	}
	if _, err := b.Output(board.OutputConfig{Line: "GPIO4", Drive: "sideways"}); err == nil {
		t.Error("an unknown drive is accepted")
	}
}

// An open-drain output that somebody else holds low reads back low.
func TestReadBack(t *testing.T) {
	b := New()
	o := request(t, b, board.OutputConfig{Line: "GPIO4", Drive: board.OpenDrain, Active: true})
	b.Line("GPIO4").Drive(false)
	if active, err := o.Active(); err != nil || active {
		t.Errorf("reads back %v, %v, want what is on the wire", active, err)
	}
}

func TestBusy(t *testing.T) {
	b := New()
	o := request(t, b, board.OutputConfig{Line: "GPIO17"})
	b.Line("GPIO18").Hold("gpio-keys")
	in, err := b.Input(board.InputConfig{Line: "GPIO19", Consumer: "other"})
	if err != nil {
		t.Fatal(err)
	}
	for line, holder := range map[string]string{"P1_11": "fieldpost", "GPIO18": "gpio-keys", "19": "other"} {
		var busy *board.BusyError
		if _, err := b.Input(board.InputConfig{Line: line}); !errors.As(err, &busy) || busy.Holder != holder {
			t.Errorf("input %s: %v, want held by %s", line, err, holder)
		}
		if _, err := b.Output(board.OutputConfig{Line: line}); !errors.As(err, &busy) || busy.Holder != holder {
			t.Errorf("output %s: %v, want held by %s", line, err, holder)
		}
	}
	o.Close()
	in.Close()
	b.Line("GPIO18").Hold("")
	for _, line := range []string{"GPIO17", "GPIO18", "GPIO19"} {
		request(t, b, board.OutputConfig{Line: line})
	}
}

func TestFail(t *testing.T) {
	b := New()
	o := request(t, b, board.OutputConfig{Line: "GPIO1"})
	in, err := b.Input(board.InputConfig{Line: "GPIO2"})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []string{"GPIO1", "GPIO2", "GPIO3"} {
		b.Line(l).Fail(syscall.EIO)
	}
	_, readErr := o.Active()
	_, inErr := in.Active()
	_, reqErr := b.Output(board.OutputConfig{Line: "GPIO3"})
	for what, err := range map[string]error{"set": o.Set(true), "read back": readErr, "read": inErr, "request": reqErr} {
		if !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: %v, want EIO", what, err)
		}
	}
	if high, _ := b.Line("GPIO1").Level(); high {
		t.Error("a set that failed has set the line")
	}
	b.Line("GPIO1").Fail(nil)
	set(t, o, true)
}

func TestLinePanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("Line of a name that is none returned")
		}
	}()
	New().Line("GPIO99")
}

// BeforeSet's function is called before the level changes.
func TestBeforeSet(t *testing.T) {
	b := New()
	o, err := b.Output(board.OutputConfig{Line: "GPIO27"})
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	b.BeforeSet(func(line string, active bool) {
		high, _ := b.Line("GPIO27").Level()
		seen = append(seen, fmt.Sprint(line, active, high))
	})
	for _, active := range []bool{true, false} {
		if err := o.Set(active); err != nil {
			t.Fatal(err)
		}
	}
	b.BeforeSet(nil)
	if err := o.Set(true); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(seen, " "); got != "GPIO27true false GPIO27false true" {
		t.Errorf("seen %s", got)
	}
}
