package sensors

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/sensors/board"
	"fieldpost/sensors/sim"
)

// edges makes edges of levels. A number n is n edges that the kernel's queue has dropped.
func edges(of ...any) (all []board.Edge) {
	lost := uint32(0)
	for i, x := range of {
		switch x := x.(type) {
		case int:
			lost = uint32(x)
		case bool:
			all = append(all, board.Edge{Active: x, Mono: time.Duration(i) * time.Millisecond, Lost: lost})
			lost = 0
		}
	}
	return all
}

// Pulses are counted exactly although the kernel's queue has dropped edges, and changes that
// the kernel itself has missed are noticed.
func TestPulsesAreCounted(t *testing.T) {
	const on, off = true, false
	for _, c := range []struct {
		edges                []board.Edge
		count, lost, missing uint64
	}{
		{edges(), 0, 0, 0},
		{edges(on, off, on, off), 2, 0, 0},
		{edges(on, off, on), 2, 0, 0},
		{edges(off, on, off), 1, 0, 0}, // it was active when it was requested
		{edges(2, on), 2, 2, 0},        // on, off, on
		{edges(3, on), 2, 3, 0},        // off, on, off, on
		{edges(3, off), 2, 3, 0},
		{edges(on, 2, off), 2, 2, 0},
		{edges(on, 1000, off, on, 1001, on), 1003, 2001, 0},
		{edges(on, on), 2, 0, 1},       // an off was missed
		{edges(on, off, off), 2, 0, 1}, // an on was missed
		{edges(on, 1, off), 2, 1, 1},   // of on, off, on, off one
		{edges(on, off, 2, off), 3, 2, 1},
	} {
		var p pulses
		r := pulseReader{}
		for _, e := range c.edges {
			r.add(&p, e)
		}
		if p.count != c.count || p.lost != c.lost || p.missed != c.missing {
			t.Errorf("%v: %d pulses, %d lost, %d missed; want %d, %d, %d", c.edges, p.count, p.lost, p.missed, c.count, c.lost, c.missing)
		}
	}
}

// openOn opens a chip with options on a board.
func openOn(t *testing.T, b board.Board, c Chip, options any) Sensor {
	t.Helper()
	s, err := c.Open(b, Config{Name: "it", Chip: c.Name, Options: options})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil && !errors.Is(err, syscall.ENODEV) {
			t.Error(err)
		}
	})
	return s
}

// readings formats what a sensor returns.
func readings(t *testing.T, s Sensor) string {
	t.Helper()
	f, err := s.Sense()
	if err != nil {
		return err.Error()
	}
	var all []string
	for _, f := range f {
		all = append(all, fmt.Sprintf("%s %v", f.Name, f.Value))
	}
	return strings.Join(all, ", ")
}

// A water meter of 10 litres a pulse with a reed contact that bounces.
func TestWaterMeter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		reed := b.Line("GPIO17")
		s := openOn(t, b, counterLine, CounterOptions{
			PulseLine: PulseLine{Pin: "GPIO17", Pull: board.PullUp, ActiveLow: true, Debounce: 5 * time.Millisecond},
			Measures:  "water", PerPulse: 10, Start: 1234.5, MaxRate: 2, Idle: 10 * time.Minute,
		})
		turn := func() { // one pulse a second
			for range 4 {
				reed.Drive(false)
				<-time.After(time.Millisecond)
				reed.Float()
				<-time.After(time.Millisecond)
			}
			reed.Drive(false)
			<-time.After(492 * time.Millisecond)
			reed.Float()
			<-time.After(500 * time.Millisecond)
		}
		want := func(want string) {
			t.Helper()
			if got := readings(t, s); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		}
		want("count 0, volume 1234.5, gaps 0, active false") // there is no rate yet
		turn()
		want("count 1, volume 1244.5, gaps 0, active false") // and one pulse gives none
		for range 3 {
			turn()
		}
		want("count 4, volume 1274.5, flow 600, gaps 0, active false")
		<-time.After(20 * time.Second)
		want("count 4, volume 1274.5, flow 30, gaps 0, active false") // at most one pulse in 20 s
		turn()
		want("count 5, volume 1284.5, flow 28.5714, gaps 0, active false") // one in 21 s
		reed.Drive(false)
		<-time.After(10 * time.Minute)
		want("count 6, volume 1294.5, flow 604.839, gaps 0, active true")
		<-time.After(10 * time.Minute)
		want("count 6, volume 1294.5, flow 0, gaps 0, active true")
	})
}

// Hum on an open wire: what is above max_rate does not count, and that is said.
func TestHum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		wire := b.Line("GPIO17")
		s := openOn(t, b, counterLine, CounterOptions{PulseLine: PulseLine{Pin: "GPIO17"}, Measures: "pulses", PerPulse: 1, MaxRate: 10, Idle: time.Minute}).(Counter)
		for range 60_000 { // 500 pulses a second, for a minute
			high, _ := wire.Level()
			wire.Drive(!high)
			<-time.After(time.Millisecond)
		}
		p, err := s.Pulses()
		if err != nil || p.Count != 610 || !p.Uncertain() || p.RateKnown {
			t.Errorf("%+v, %v", p, err)
		}
		if want := "500 pulses/s in the last 60 s; max_rate allows 10/s, and 29390 pulses were not counted"; p.Excess != want {
			t.Errorf("says %q, want %q", p.Excess, want)
		}
		if n := len(s.(*counter).r.edges); n > board.EdgesKept {
			t.Errorf("looked at %d edges", n)
		}
	})
}

// The quantities of what is measured, their units and their sums.
func TestMeasures(t *testing.T) {
	for measures, want := range map[string]string{
		"pulses": "count 7, rate 30, gaps 0, active false",
		"water":  "count 7, volume 3.5, flow 30, gaps 0, active false",
		"gas":    "count 7, gas_volume 3.5, gas_flow 1800, gaps 0, active false",
		"energy": "count 7, energy_total 3.5, power 1.8e+06, gaps 0, active false",
		"rain":   "count 7, rain 3.5, rain_rate 1800, gaps 0, active false",
		"wind":   "count 7, wind_run 3.5, wind_speed 0.5, gaps 0, active false",
	} {
		synctest.Test(t, func(t *testing.T) {
			b := sim.New()
			s := openOn(t, b, counterLine, CounterOptions{PulseLine: PulseLine{Pin: "GPIO17"}, Measures: measures, PerPulse: 0.5, MaxRate: 10, Idle: time.Minute})
			for range 7 {
				b.Line("GPIO17").Drive(true)
				b.Line("GPIO17").Drive(false)
				<-time.After(time.Second)
			}
			if got := readings(t, s); got != want {
				t.Errorf("%s: %s, want %s", measures, got, want)
			}
			var names []string
			for _, q := range s.Quantities() {
				names = append(names, q.Name)
			}
			for _, f := range strings.Split(want, ", ") {
				if name, _, _ := strings.Cut(f, " "); !slices.Contains(names, name) {
					t.Errorf("%s: quantity %s is not announced", measures, name)
				}
			}
		})
	}
}

func TestPulseErrors(t *testing.T) {
	b := sim.New()
	b.Line("GPIO17").Hold("gpio-keys")
	var busy *board.BusyError
	for _, c := range []Chip{counterLine, frequencyLine} {
		options := func(l PulseLine) any {
			if c.Name == "counter" {
				return CounterOptions{PulseLine: l, Measures: "water"}
			}
			return Frequency{PulseLine: l}
		}
		if _, err := c.Open(b, Config{Options: options(PulseLine{Pin: "GPIO17"})}); !errors.As(err, &busy) {
			t.Errorf("%s: a busy line: %v", c.Name, err)
		}
		if _, err := c.Open(b, Config{Options: options(PulseLine{})}); !errors.Is(err, errNoPin) {
			t.Errorf("%s: no line: %v", c.Name, err)
		}
		if _, err := c.Open(b, Config{Options: options(PulseLine{Pin: "GPIO18", Debounce: -1})}); err == nil {
			t.Errorf("%s: a negative debounce is accepted", c.Name)
		}
		s := openOn(t, b, c, options(PulseLine{Pin: "GPIO18"}))
		b.Line("GPIO18").Fail(syscall.ENODEV)
		if f, err := s.Sense(); !errors.Is(err, syscall.ENODEV) || f != nil {
			t.Errorf("%s: a line gone: %v, %v", c.Name, f, err)
		}
		b.Line("GPIO18").Fail(nil)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := counterLine.Open(b, Config{Options: CounterOptions{PulseLine: PulseLine{Pin: "GPIO18"}, Measures: "beer"}}); err == nil || !strings.Contains(err.Error(), "want pulses, water") {
		t.Errorf("measures beer: %v", err)
	}
}

func TestFrequency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		l := b.Line("GPIO17")
		s := openOn(t, b, frequencyLine, Frequency{PulseLine: PulseLine{Pin: "GPIO17"}, Idle: 2 * time.Second})
		if _, err := s.Sense(); !errors.Is(err, ErrNotReady) {
			t.Errorf("at once: %v", err)
		}
		run := func(n int, half time.Duration) {
			for range n {
				l.Drive(true)
				<-time.After(half)
				l.Drive(false)
				<-time.After(half)
			}
		}
		want := func(want string) {
			t.Helper()
			if got := readings(t, s); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
		run(20, 5*time.Millisecond)
		want("frequency 100")
		run(20_000, 100*time.Microsecond) // of 40,000 edges the kernel keeps 256
		want("frequency 4987.78")         // with the period of 10 ms before
		run(20_000, 100*time.Microsecond)
		want("frequency 5000")
		<-time.After(time.Second)
		want("frequency 1") // at most
		<-time.After(time.Second)
		want("frequency 0")
	})
}

// A signal of which the kernel misses changes has no frequency.
func TestFrequencyTooFast(t *testing.T) {
	s := &frequencySensor{r: &pulseReader{chip: "frequency", in: fakeReader{edges(true, false, true, true)}}, rate: pulseRate{idle: time.Second, opened: time.Now()}}
	if f, err := s.Sense(); !errors.Is(err, ErrFault) || f != nil {
		t.Errorf("%v, %v", f, err)
	}
}

// fakeReader has edges.
type fakeReader struct{ edges []board.Edge }

func (r fakeReader) ID() board.LineID                          { return board.LineID{} }
func (r fakeReader) Active() (bool, error)                     { return false, nil }
func (r fakeReader) Read(e []board.Edge) ([]board.Edge, error) { return append(e, r.edges...), nil }
func (r fakeReader) Close() error                              { return nil }

func TestAmounts(t *testing.T) {
	for text, want := range map[string]float64{"10": 10, "0.2794": 0.2794, "1/800": 0.00125, "1 / 450": 1.0 / 450, "1e-3": 0.001} {
		if got, err := amountOf(text); err != nil || got.(float64) != want {
			t.Errorf("%s: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "1/0", "0/0", "ten", "1/", "/8", "NaN", "1e999", "10 L", "1/2/3"} {
		if got, err := amountOf(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}

func TestUltrasonic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		d := sim.AddHCSR04(b, "GPIO23", "GPIO24")
		s := openOn(t, b, ultrasonic, Ultrasonic{Trigger: "GPIO23", Echo: "GPIO24", Air: 20})
		sense := func(want string) {
			t.Helper()
			if got := readings(t, s); !strings.HasPrefix(got, want) {
				t.Errorf("%s, want %s", got, want)
			}
		}
		for _, metres := range []float64{0.02, 0.5, 1, 3.999} {
			d.SetDistance(metres)
			f, err := s.Sense()
			if err != nil || len(f) != 2 || f[0].Value != true || math.Abs(f[1].Value.(float64)-metres) > 1e-5 {
				t.Errorf("%v m: %v, %v", metres, f, err)
			}
		}
		began := time.Now()
		sense("in_range true")
		sense("in_range true")
		if took := time.Since(began); took < pingEvery {
			t.Errorf("two pings in %v", took)
		}
		d.SetDistance(100)
		sense("in_range false")
		d.Unplug(true)
		if _, err := s.Sense(); !errors.Is(err, ErrSilent) || !errors.Is(err, ErrAbsent) {
			t.Errorf("unplugged: %v", err)
		}
		d.Unplug(false)
		d.SetDistance(2)
		sense("in_range true, distance 2")
		b.Line("GPIO24").Drive(true)
		sense("read ultrasonic: answered wrongly: the echo line is high")
		b.Line("GPIO24").Drive(false)
		sense("in_range true, distance 2")
		if n := d.Pings(); n != 9 {
			t.Errorf("%d trigger pulses, want 9", n) // none for the ones without a module, or with a high echo
		}
		// The trigger is low but for the pulses.
		high := time.Duration(0)
		history := b.Line("GPIO23").History()
		for i, c := range history {
			if !c.High {
				continue
			}
			if i+1 == len(history) {
				t.Fatal("the trigger was left high")
			}
			high = max(high, history[i+1].At-c.At)
		}
		if high != triggerPulse {
			t.Errorf("the trigger was high for %v", high)
		}
	})
}

// The echo picks up noise; the air is warmer; a line is another's.
func TestUltrasonicErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		sim.AddHCSR04(b, "GPIO23", "GPIO24")
		options := Ultrasonic{Trigger: "GPIO23", Echo: "GPIO24", Air: 35}
		s := openOn(t, b, ultrasonic, options)
		if got := readings(t, s); got != "in_range true, distance 1.02647" {
			t.Errorf("at 35 °C: %s", got)
		}
		go func() {
			<-time.After(30 * time.Millisecond) // after the next trigger
			b.Line("GPIO24").Drive(true)
			b.Line("GPIO24").Drive(false)
		}()
		if f, err := s.Sense(); !errors.Is(err, ErrFault) || f != nil {
			t.Errorf("noise: %v, %v", f, err)
		}
		b.Line("GPIO24").Fail(syscall.ENODEV)
		if f, err := s.Sense(); !errors.Is(err, syscall.ENODEV) || f != nil {
			t.Errorf("a line gone: %v, %v", f, err)
		}
		b.Line("GPIO24").Fail(nil)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		for _, line := range []string{"GPIO23", "GPIO24"} {
			b.Line(line).Hold("gpio-keys")
			var busy *board.BusyError
			if _, err := ultrasonic.Open(b, Config{Chip: "ultrasonic", Options: options}); !errors.As(err, &busy) {
				t.Errorf("%s is another's: %v", line, err)
			}
			if err := ultrasonic.Look(b, Config{Chip: "ultrasonic", Options: options}); !errors.As(err, &busy) {
				t.Errorf("look: %s is another's: %v", line, err)
			}
			b.Line(line).Hold("")
		}
		for _, o := range []Ultrasonic{{Trigger: "GPIO23"}, {Echo: "GPIO24"}} {
			if _, err := ultrasonic.Open(b, Config{Chip: "ultrasonic", Options: o}); err == nil || !strings.Contains(err.Error(), "is missing") {
				t.Errorf("%+v: %v", o, err)
			}
		}
		openOn(t, b, ultrasonic, options) // all of these have released what they had
	})
}
