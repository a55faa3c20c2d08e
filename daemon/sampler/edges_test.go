package sampler

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/sensors"
	"fieldpost/sensors/board"
)

// door is a sensor that reports its edges.
func door(f *fake) (map[string]*fake, sensors.Config) {
	f.edges = true
	return map[string]*fake{"line": f}, sensors.Config{Name: "door", Chip: "line", Every: time.Minute}
}

// Every edge is a record with the time of the kernel's stamp, numbered along
// with the readings.
func TestEdges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		fakes, c := door(f)
		r := run(t, fakes, c)
		pass(30 * time.Second)
		f.tell(board.Edge{Active: true, Mono: 28500 * time.Millisecond})
		f.tell(board.Edge{Active: false, Mono: 29 * time.Second})
		pass(31 * time.Second)
		f.tell(board.Edge{Active: true, Mono: 61 * time.Second})
		synctest.Wait()
		same(t, "records", r.got(), []string{
			"0s door reading 1", "28.5s door edge 2", "29s door edge 3", "1m0s door reading 4", "1m1s door edge 5"})
		e := r.records[1]
		if want := r.start.Add(28500 * time.Millisecond); !e.Stamp.Wall.Equal(want) || e.Run != 7 {
			t.Errorf("edge is %+v, want its wall clock at %v", e, want)
		}
		if len(e.Fields) != 2 || e.Fields[0] != (sensors.Field{Name: "temperature", Value: true}) || e.Fields[1] != (sensors.Field{Name: "changes", Value: int64(1)}) {
			t.Errorf("fields are %+v, want the chip's first quantity and one change", e.Fields)
		}
		r.stop()
	})
}

func TestStampOf(t *testing.T) {
	wall := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	now := clock.Stamp{Boot: "b", Mono: time.Minute, Wall: wall, Synced: true}
	if got, want := stampOf(now, 50*time.Second), (clock.Stamp{Boot: "b", Mono: 50 * time.Second, Wall: wall.Add(-10 * time.Second), Synced: true}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := stampOf(now, time.Hour); got != now {
		t.Errorf("an edge of the future is stamped %+v", got)
	}
}

// Lost edges are a fault until a whole period passes without any.
func TestLostEdges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		fakes, c := door(f)
		r := run(t, fakes, c)
		pass(10 * time.Second)
		f.tell(board.Edge{Active: true, Mono: 10 * time.Second, Lost: 3})
		f.tell(board.Edge{Active: false, Mono: 10 * time.Second, Lost: 1})
		pass(3 * time.Minute)
		same(t, "faults", r.faults(), []string{"10s door edges_lost raised", "2m0s door edges_lost cleared"})
		if n := strings.Count(r.logged(), `msg="edges lost" sensor=door lost=3`); n != 1 || strings.Contains(r.logged(), "lost=1") {
			t.Errorf("log is %s", r.logged())
		}
		r.stop()
	})
}

// A line that was opened again is followed as the first one was.
func TestEdgesAfterReopen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{sense: func(n int) ([]sensors.Field, error) {
			if n <= 6 {
				return nil, errWire
			}
			return degrees(20)
		}}
		fakes, c := door(f)
		r := run(t, fakes, c)
		f.tell(board.Edge{Active: true}) // it cannot be read, but it changes
		pass(5 * time.Second)
		f.tell(board.Edge{Active: false, Mono: 5 * time.Second})
		synctest.Wait()
		same(t, "records", r.got(), []string{"0s door edge 1", "3s door reading 2", "5s door edge 3"})
		if f.opened != 2 || f.closed != 1 {
			t.Errorf("opened %d and closed %d times", f.opened, f.closed)
		}
		r.stop()
	})
}

// Edges that arrive before the end are not lost by it.
func TestEdgesAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		fakes, c := door(f)
		r := run(t, fakes, c)
		f.shut = func(int) error {
			f.tell(board.Edge{Active: true})
			f.tell(board.Edge{Active: false})
			return nil
		}
		r.stop()
		same(t, "records", r.got(), []string{"0s door reading 1", "0s door edge 2", "0s door edge 3"})
	})
}

// A line whose driver hangs while it closes does not hang the end, and what
// it has reported is told.
func TestEdgesOfAStuckLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		f := &fake{shut: func(int) error {
			<-release
			return nil
		}}
		fakes, c := door(f)
		r := run(t, fakes, c)
		f.tell(board.Edge{Active: true})
		if took := r.stop(); took > 2*stopWait {
			t.Errorf("the end took %v", took)
		}
		same(t, "records", r.got(), []string{"0s door reading 1", "0s door edge 2"})
		close(release)
	})
}

// A constructor that answers after its caller has given up still has its
// edges told.
func TestEdgesOfALateOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{open: func(int) error {
			<-time.After(1500 * time.Millisecond)
			return nil
		}}
		fakes, c := door(f)
		r := run(t, fakes, c)
		pass(1700 * time.Millisecond)
		f.tell(board.Edge{Active: true, Mono: 1700 * time.Millisecond})
		synctest.Wait()
		same(t, "records", r.got(), []string{"1.7s door edge 1"})
		r.stop()
	})
}
