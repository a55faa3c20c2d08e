package history

import (
	"math"
	"reflect"
	"testing"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/message"
	"fieldpost/sensors"
)

// start is the wall time at which the boards of these tests boot.
var start = time.Date(2026, 11, 29, 8, 0, 0, 0, time.UTC)

// at returns a moment of the boot, by a clock that is true.
func at(mono time.Duration) clock.Stamp {
	return clock.Stamp{Boot: "test", Mono: mono, Wall: start.Add(mono), Synced: true}
}

// reading makes a reading of the sensor "air".
func reading(stamp clock.Stamp, fields ...sensors.Field) message.Record {
	return message.Record{Kind: message.Reading, Sensor: "air", Stamp: stamp, Fields: fields}
}

func temperature(v any) sensors.Field { return sensors.Field{Name: "temperature", Value: v} }

// inMemory are the options of a store without files.
func inMemory(most int, sensors ...Sensor) Options {
	return Options{Settings: Settings{Keep: InMemory, Most: most, Sensors: sensors}, Clock: clock.Fake()}
}

// newAir returns a store of one sensor.
func newAir() *Store {
	return New(inMemory(64, Sensor{"air", 10 * time.Second}))
}

// find returns the points of a quantity in a time before now.
func find(t *testing.T, h *Store, quantity string, now clock.Stamp, age time.Duration, points int) Series {
	t.Helper()
	all, known := h.Find(Query{Sensor: "air", Quantity: quantity, Since: now.Wall.Add(-age).Unix(), Until: now.Wall.Unix(), Points: points}, now)
	if !known || len(all) != 1 {
		t.Fatalf("no history of %s", quantity)
	}
	return all[0]
}

// A week of readings every ten seconds gives plots of an hour, a day and a week, in which no
// extreme is lost.
func TestWeek(t *testing.T) {
	h := newAir()
	const week = 7 * 24 * time.Hour
	for mono := time.Duration(0); mono < week; mono += 10 * time.Second {
		v := 20 + math.Sin(2*math.Pi*mono.Hours()/24)
		if mono == 3*24*time.Hour+4*time.Hour {
			v = 85
		}
		h.Record(reading(at(mono), temperature(v)))
	}
	now := at(week - time.Second)
	for _, c := range []struct {
		age, step time.Duration
		most      int
	}{{time.Hour, 10 * time.Second, 361}, {24 * time.Hour, 10 * time.Minute, 145}, {week, 30 * time.Minute, 337}} {
		s := find(t, h, "temperature", now, c.age, 1000)
		if s.Step != c.step || len(s.Points) < c.most-2 || len(s.Points) > c.most+1 {
			t.Errorf("%v: %d points of %v", c.age, len(s.Points), s.Step)
		}
		highest := 0.0
		for i, p := range s.Points {
			if p.Gap || p.Min > p.Mean || p.Mean > p.Max || i > 0 && p.At <= s.Points[i-1].At {
				t.Fatalf("%v: point %d is %+v", c.age, i, p)
			}
			highest = max(highest, p.Max)
		}
		if want := c.age == week; (highest == 85) != want {
			t.Errorf("%v: highest is %v", c.age, highest)
		}
		if first := now.Wall.Add(-c.age).Unix(); s.Points[0].At < first || s.Points[0].At > first+int64(c.step/time.Second)+1 {
			t.Errorf("%v: begins at %v", c.age, time.Unix(s.Points[0].At, 0).UTC())
		}
	}
	later := now
	later.Mono, later.Wall = now.Mono+2*time.Second, now.Wall.Add(2*time.Second)
	for age, step := range map[time.Duration]time.Duration{time.Hour: 10 * time.Second, 24 * time.Hour: 10 * time.Minute, 25 * time.Hour: 30 * time.Minute} {
		if got := find(t, h, "temperature", later, age, 1000).Step; got != step {
			t.Errorf("%v: points of %v, want %v", age, got, step)
		}
	}
	if s := find(t, h, "temperature", now, week, 50); len(s.Points) > 51 || len(s.Points) < 40 || s.Step%(30*time.Minute) != 0 {
		t.Errorf("%d points of %v", len(s.Points), s.Step)
	}
}

// A point has the mean and the extremes of its time.
func TestPointOfAStep(t *testing.T) {
	h := newAir()
	for i, v := range []float64{21, 24, 22.5} {
		h.Record(reading(at(time.Duration(100+3*i)*time.Second), temperature(v)))
	}
	got := find(t, h, "temperature", at(109*time.Second), time.Hour, 500).Points
	if want := []Point{{At: start.Unix() + 100, Mean: 22.5, Min: 21, Max: 24}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

// What a sensor does not give for longer than it may is a gap, and so is the time in which
// the daemon did not run.
func TestGap(t *testing.T) {
	h := newAir()
	for _, s := range []int{0, 10, 30, 50, 100, 110} { // one that is missed now and then is none
		h.Record(reading(at(time.Duration(s)*time.Second), temperature(20.0)))
	}
	got := find(t, h, "temperature", at(2*time.Minute), time.Hour, 500).Points
	var gaps []int64
	for _, p := range got {
		if p.Gap {
			gaps = append(gaps, p.At-start.Unix())
		}
	}
	if !reflect.DeepEqual(gaps, []int64{60}) || len(got) != 7 {
		t.Errorf("gaps at %v, %d points", gaps, len(got))
	}
}

// An input that changes was on and off, however short that was.
func TestEdges(t *testing.T) {
	h := newAir()
	active := func(v bool) sensors.Field { return sensors.Field{Name: "active", Value: v} }
	changes := sensors.Field{Name: "changes", Value: int64(3)}
	for s := 0; s < 60; s += 10 {
		h.Record(reading(at(time.Duration(s)*time.Second), active(false)))
	}
	edge := reading(at(25*time.Second), active(true), changes)
	edge.Kind = message.Edge
	h2 := newAir()
	h2.Record(edge) // alone
	got := find(t, h2, "active", at(time.Minute), time.Hour, 500).Points
	if want := []Point{{At: start.Unix() + 20, Mean: 1, Min: 0, Max: 1}}; !reflect.DeepEqual(got, want) {
		t.Errorf("alone: got %+v", got)
	}
	edge.Stamp = at(65 * time.Second)
	h.Record(edge)
	edge.Stamp, edge.Fields[0].Value = at(66*time.Second), false
	h.Record(edge)
	h.Record(reading(at(69*time.Second), active(false)))
	got = find(t, h, "active", at(70*time.Second), time.Hour, 500).Points
	if len(got) != 7 || got[5] != (Point{At: start.Unix() + 50}) || got[6] != (Point{At: start.Unix() + 60, Max: 1}) {
		t.Errorf("got %+v", got)
	}
	if all := h.List(at(time.Minute)); len(all) != 1 {
		t.Errorf("got %+v", all)
	}
}

// Readings from before the clock was right have their right times once it is, and a step of
// the clock moves all of them.
func TestClock(t *testing.T) {
	h := newAir()
	wrong := func(mono time.Duration) clock.Stamp {
		s := at(mono)
		s.Wall, s.Synced = s.Wall.AddDate(-56, 0, 0), false
		return s
	}
	for s := 0; s < 100; s += 10 {
		h.Record(reading(wrong(time.Duration(s)*time.Second), temperature(20.0)))
	}
	if got := find(t, h, "temperature", wrong(100*time.Second), time.Hour, 500).Points; len(got) != 10 || got[0].At != start.AddDate(-56, 0, 0).Unix() {
		t.Errorf("before: got %d points, %+v", len(got), got[0])
	}
	h.Record(reading(at(100*time.Second), temperature(20.0)))
	check := func(when string, now clock.Stamp, first time.Time) {
		t.Helper()
		got := find(t, h, "temperature", now, time.Hour, 500).Points
		if len(got) != 11 || got[0].At != first.Unix() || got[10].At != first.Unix()+100 {
			t.Errorf("%s: got %d points, %+v", when, len(got), got)
		}
	}
	check("synchronised", at(101*time.Second), start)
	lost := at(101 * time.Second)
	lost.Synced, lost.Wall = false, lost.Wall.Add(5*time.Minute)
	h.Record(reading(lost, sensors.Field{Name: "other", Value: 1.0}))
	lost.Wall = at(101 * time.Second).Wall
	check("lost again", lost, start)
	back := at(101 * time.Second)
	back.Wall = back.Wall.Add(-2 * time.Hour)
	check("stepped back", back, start.Add(-2*time.Hour))
}

// A large total keeps its last digits, and a decimal fraction does not get more than it had.
func TestDigits(t *testing.T) {
	h := newAir()
	h.Record(reading(at(0), sensors.Field{Name: "count", Value: int64(987_654_321_000)}, temperature(21.53), sensors.Field{Name: "pressure", Value: 101325.25}))
	h.Record(reading(at(10*time.Second), sensors.Field{Name: "count", Value: int64(987_654_321_007)}, temperature(31.47), sensors.Field{Name: "pressure", Value: 98321.75}))
	for quantity, want := range map[string]float64{"count": 987_654_321_007, "temperature": 31.47, "pressure": 98321.75} {
		got := find(t, h, quantity, at(20*time.Second), time.Hour, 500).Points
		if len(got) != 2 || got[1].Max != want {
			t.Errorf("%s: got %+v, want %v", quantity, got, want)
		}
	}
}

// What is no number, or not finite, is not kept, and does not harm what is.
func TestOddValues(t *testing.T) {
	h := newAir()
	h.Record(reading(at(0), temperature("warm"), sensors.Field{Name: "a", Value: math.NaN()}, sensors.Field{Name: "b", Value: math.Inf(1)}, sensors.Field{Name: "c", Value: math.MaxFloat64}, sensors.Field{Name: "d", Value: nil}))
	h.Record(message.Record{Kind: message.Fault, Sensor: "air", Stamp: at(0), Fields: []sensors.Field{temperature(1.0)}})
	h.Record(message.Record{Kind: message.Reading, Sensor: "moon", Stamp: at(0), Fields: []sensors.Field{temperature(1.0)}})
	if all := h.List(at(0)); len(all) != 0 {
		t.Errorf("got %+v", all)
	}
}

// The memory is bounded. What is no longer configured gives way, what is configured does not.
func TestBound(t *testing.T) {
	h := New(inMemory(3, Sensor{"air", time.Second}, Sensor{"old", time.Second}))
	put := func(sensor, quantity string, mono time.Duration) {
		r := reading(at(mono), sensors.Field{Name: quantity, Value: 1.0})
		r.Sensor = sensor
		h.Record(r)
	}
	names := func() (all []string) {
		for _, s := range h.List(at(0)) {
			all = append(all, s.Sensor+"."+s.Quantity)
		}
		return all
	}
	put("old", "x", 0)
	put("old", "y", time.Second)
	put("air", "a", 0)
	put("air", "b", 0)
	if got := names(); !reflect.DeepEqual(got, []string{"air.a", "old.x", "old.y"}) {
		t.Errorf("full: %v", got)
	}
	h.Configure(inMemory(3, Sensor{"air", time.Second}).Settings)
	if got := names(); len(got) != 3 {
		t.Errorf("after the reload: %v", got)
	}
	put("air", "b", 2*time.Second)
	if got := names(); !reflect.DeepEqual(got, []string{"air.a", "air.b", "old.y"}) {
		t.Errorf("with a new one: %v", got)
	}
}

// In steady state a reading takes no memory.
func TestRecordAllocatesNothing(t *testing.T) {
	h := newAir()
	r := reading(at(0), temperature(20.5), sensors.Field{Name: "humidity", Value: 51.2}, sensors.Field{Name: "active", Value: true})
	h.Record(r)
	if n := testing.AllocsPerRun(1000, func() {
		r.Stamp.Mono += 10 * time.Second
		h.Record(r)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkRecord is what history adds to a reading of three quantities.
func BenchmarkRecord(b *testing.B) {
	h := newAir()
	r := reading(at(0), temperature(20.5), sensors.Field{Name: "humidity", Value: 51.2}, sensors.Field{Name: "pressure", Value: 101325.0})
	b.ReportAllocs()
	for b.Loop() {
		r.Stamp.Mono += 10 * time.Second
		h.Record(r)
	}
}
