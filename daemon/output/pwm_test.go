package output

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/sensors/board"
	"fieldpost/sensors/sim"
)

var fan = Config{Name: "fan", PWM: "pwmchip0:1", Frequency: 25_000, Safe: Safe(20_00), Initial: Initial(30_00)}

// level orders a PWM output to a level.
func (n *harness) level(name string, percent float64) (State, error) {
	l, ok := Percent(percent)
	if !ok {
		n.t.Fatalf("%v %%", percent)
	}
	return n.bank.Do(Order{Output: name, Action: ActionSet, Level: l, Cause: "test"})
}

// wantShare checks the level of a channel.
func (n *harness) wantShare(channel string, percent float64) {
	n.t.Helper()
	if got := n.board.Channel(channel).Share() * 100; math.Abs(got-percent) > 0.006 {
		n.t.Errorf("%s is at %v %%, want %v %%", channel, got, percent)
	}
}

// A PWM output begins at its initial level, takes levels, and is safe at the end.
func TestPWMLevels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		n := open(t, b, fan)
		stop := n.run()
		n.wantShare("pwmchip0:1", 30)
		n.wantAllEvents("output=fan state=on level=30 cause=initial")
		if s, err := n.level("fan", 42.5); err != nil || s.Level != 42_50 || !s.PWM || s.Level.String() != "42.5%" {
			t.Errorf("%+v, %v", s, err)
		}
		n.wantShare("pwmchip0:1", 42.5)
		n.wantAllEvents("output=fan state=on level=42.5 cause=test")
		n.do("fan", ActionOff, 0)
		n.wantShare("pwmchip0:1", 0)
		n.do("fan", ActionToggle, 0)
		n.wantShare("pwmchip0:1", 100)
		n.do("fan", ActionPulse, time.Second)
		n.wantShare("pwmchip0:1", 0)
		n.after(time.Second)
		n.wantShare("pwmchip0:1", 20)
		n.do("fan", ActionOn, 2*time.Second)
		n.after(2 * time.Second)
		n.wantShare("pwmchip0:1", 20)
		if err := n.bank.Close(); err != nil {
			t.Error(err)
		}
		n.wantShare("pwmchip0:1", 20)
		stop()
		n.wantFaults()
	})
}

// The bounds of lines hold for PWM outputs. On and off count for min_on and min_off, and not
// the level between.
func TestPWMBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lamp := Config{Name: "lamp", PWM: "pwmchip0:0", Frequency: 500, MaxOn: time.Minute, MinOn: 10 * time.Second, SafeAfter: 5 * time.Minute}
		other := Config{Name: "other", PWM: "pwmchip0:1", Frequency: 500, Interlock: []string{"lamp"}}
		n := open(t, newBoard(), lamp, other)
		defer n.run()()
		for _, l := range []float64{50, 70, 30} {
			if _, err := n.level("lamp", l); err != nil {
				t.Errorf("%v %%: %v", l, err)
			}
			n.after(2 * time.Second)
		}
		var locked *InterlockError
		if _, err := n.level("other", 1); !errors.As(err, &locked) {
			t.Errorf("against the interlock: %v", err)
		}
		n.after(53 * time.Second)
		n.wantShare("pwmchip0:0", 30)
		n.after(time.Second)
		n.wantShare("pwmchip0:0", 0) // a minute after it went on
		if _, err := n.level("other", 1); err != nil {
			t.Error(err)
		}
	})
}

// A ramp goes steadily to the level of an order. To the safe level nothing is slow.
func TestPWMRamp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := fan
		c.Ramp, c.Safe, c.Initial = 10*time.Second, SafeOff, InitialOff
		n := open(t, newBoard(), c)
		defer n.run()()
		if s, err := n.level("fan", 80); err != nil || s.Level != 80_00 {
			t.Errorf("%+v, %v", s, err)
		}
		n.wantShare("pwmchip0:1", 0)
		n.after(4 * time.Second)
		n.wantShare("pwmchip0:1", 40)
		n.after(4 * time.Second)
		n.wantShare("pwmchip0:1", 80)
		if _, err := n.level("fan", 30); err != nil {
			t.Error(err)
		}
		n.after(2 * time.Second)
		n.wantShare("pwmchip0:1", 60)
		if _, err := n.level("fan", 70); err != nil { // turns round
			t.Error(err)
		}
		n.after(time.Second)
		n.wantShare("pwmchip0:1", 70)
		h := n.board.Channel("pwmchip0:1").History()
		for i := 1; i < len(h); i++ {
			if math.Abs(h[i]-h[i-1]) > 0.0051 {
				t.Errorf("from %v to %v in one step", h[i-1], h[i])
			}
		}
		if _, err := n.level("fan", 10); err != nil {
			t.Error(err)
		}
		n.after(time.Second)
		n.do("fan", ActionOff, 0)
		n.wantShare("pwmchip0:1", 0)
		n.after(time.Minute)
		n.wantShare("pwmchip0:1", 0)
		n.wantFaults()
		n.wantEvents()
	})
}

// Who changes the channel behind us is a fault, also during a ramp, and the output is safe.
func TestPWMDisturbed(t *testing.T) {
	for _, ramp := range []time.Duration{0, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			c := fan
			c.Ramp = ramp
			n := open(t, newBoard(), c)
			defer n.run()()
			if _, err := n.level("fan", 60); err != nil {
				t.Error(err)
			}
			n.board.Channel("pwmchip0:1").Disturb(1)
			n.after(2 * checkEvery)
			if ramp == 0 { // a step of a ramp sets the channel again before the check
				n.wantShare("pwmchip0:1", 20)
				n.wantFaults("fan level_lost raised")
				n.wantEvents("output=fan state=on level=20 cause=level_lost")
			} else if s := n.board.Channel("pwmchip0:1").Share(); s > 0.61 {
				t.Errorf("still at %v", s)
			}
		})
	}
}

// A channel that fails is a failed order, and made safe when it works again.
func TestPWMFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := fan
		c.Ramp = 10 * time.Second
		n := open(t, newBoard(), c)
		defer n.run()()
		ch := n.board.Channel("pwmchip0:1")
		ch.Fail(errors.New("remote I/O error"))
		var failed *FailedError
		if _, err := n.level("fan", 60); !errors.As(err, &failed) {
			t.Errorf("%v", err)
		}
		ch.Fail(nil)
		n.after(5 * time.Second)
		n.wantShare("pwmchip0:1", 20)
		if _, err := n.level("fan", 90); err != nil {
			t.Error(err)
		}
		n.after(2 * time.Second)
		ch.Fail(errors.New("remote I/O error")) // under the ramp
		n.after(5 * time.Second)
		ch.Fail(nil)
		n.after(5 * time.Second)
		n.wantShare("pwmchip0:1", 20)
		if s := n.bank.States()[0]; s.Level != 20_00 || s.Err != nil {
			t.Errorf("%+v", s)
		}
		if len(n.health.Current()) > 0 {
			t.Error("the fault is still raised")
		}
	})
}

// After a kill the kernel goes on with what was set, until `fieldpost safe` and the next
// start set the safe level from the record.
func TestPWMAfterAKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, record := newBoard(), filepath.Join(t.TempDir(), "outputs")
		kept := Config{Name: "kept", PWM: "pwmchip0:0", Frequency: 500, Safe: SafeKeep, Initial: InitialKeep}
		n := openOn(t, b, b, record, fan, kept)
		if _, err := n.level("fan", 90); err != nil {
			t.Fatal(err)
		}
		if _, err := n.level("kept", 55); err != nil {
			t.Fatal(err)
		}
		b.Crash()
		n.wantShare("pwmchip0:1", 90)
		drive := func(c board.PWMConfig) error { _, err := b.PWM(c); return err }
		handles, err := MakeSafe(record, func(board.OutputConfig) (*os.File, error) { return nil, fs.ErrInvalid }, drive)
		if err != nil || len(handles) != 2 || handles[0].File != nil {
			t.Errorf("%+v, %v", handles, err)
		}
		n.wantShare("pwmchip0:1", 20)
		n.wantShare("pwmchip0:0", 55)
		b.Channel("pwmchip0:1").Disturb(0.9) // a kill without `fieldpost safe`
		held, err := TakeOver(Inheritance{Record: record, Drive: drive})
		if err != nil {
			t.Error(err)
		}
		n.wantShare("pwmchip0:1", 20)
		again := openWith(t, b, Options{Board: b, Outputs: []Config{fan, kept}, Record: record, Held: held})
		again.wantShare("pwmchip0:1", 30)
		again.wantShare("pwmchip0:0", 55)
		if s := again.bank.States()[1]; s.Level != 55_00 {
			t.Errorf("%+v", s)
		}
	})
}

// Each level comes back from the text and from the kernel as it was.
func TestEveryLevel(t *testing.T) {
	for _, period := range []time.Duration{10 * time.Microsecond, 33_333, time.Millisecond, time.Second} {
		for l := Off; l <= On; l++ {
			if got := levelOn(onTime(l, period), period); got != l {
				t.Fatalf("%s at %v reads %s", l, period, got)
			}
		}
	}
	for l := Off; l <= On; l++ {
		var again Level
		if err := again.UnmarshalText([]byte(l.String())); err != nil || again != l {
			t.Fatalf("%s is read as %s, %v", l, again, err)
		}
	}
	for _, bad := range []string{"", "40", "101%", "-1%", "1e1%", "0x1p3%", "12.345%", "NaN%", "Inf%", "+5%", " 5%", "5 %", "%"} {
		if err := new(Level).UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is a level", bad)
		}
	}
	for text, want := range map[string]Frequency{"25kHz": 25_000, "100Hz": 100, "1.5 kHz": 1500} {
		var f Frequency
		if err := f.UnmarshalText([]byte(text)); err != nil || f != want {
			t.Errorf("%s: %v, %v", text, f, err)
		}
	}
}

// A line has no level between off and on.
func TestNoLevelsOfALine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, newBoard(), pump)
		if _, err := n.level("pump", 40); !errors.Is(err, ErrNoLevels) {
			t.Errorf("%v", err)
		}
		for _, l := range []float64{100, 0} {
			if s, err := n.level("pump", l); err != nil || s.Level.Percent() != l {
				t.Errorf("%v: %+v, %v", l, s, err)
			}
		}
		if h := n.board.Line("GPIO27").History(); !slices.ContainsFunc(h, func(c sim.Change) bool { return c.High }) {
			t.Error("it was never on")
		}
	})
}

// A chip rounds a level to what it can do. That is no other level; off is off exactly.
func TestCoarsePWM(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, newBoard(), fan)
		defer n.run()()
		ch := n.board.Channel("pwmchip0:1")
		if _, err := n.level("fan", 60); err != nil {
			t.Error(err)
		}
		ch.Disturb(0.6 + 1.0/256)
		n.after(2 * checkEvery)
		n.wantFaults()
		n.do("fan", ActionOff, 0)
		ch.Disturb(1.0 / 256)
		n.after(2 * checkEvery)
		n.wantFaults("fan level_lost raised")
	})
}

// What was a PWM output in the last run, and is a line now, begins at its safe level.
func TestLastLevelOfAFormerPWMOutput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memJournal{}
		was := Config{Name: "lamp", PWM: "pwmchip0:0", Frequency: 500, Initial: InitialLast}
		n := openWith(t, newBoard(), Options{Board: newBoard(), Levels: j, Outputs: []Config{was}})
		stop := n.run()
		if _, err := n.level("lamp", 40); err != nil {
			t.Error(err)
		}
		n.after(time.Second)
		stop()
		b := newBoard()
		again := openWith(t, b, Options{Board: b, Levels: j, Outputs: []Config{was}})
		if s := again.bank.States()[0]; s.Level != 40_00 {
			t.Errorf("as a PWM output it begins at %s", s.Level)
		}
		is := Config{Name: "lamp", Pin: "GPIO6", Initial: InitialLast}
		again = openWith(t, b, Options{Board: b, Levels: j, Outputs: []Config{is}})
		if s := again.bank.States()[0]; s.Level != Off || s.Err != nil {
			t.Errorf("as a line it begins at %+v", s)
		}
	})
}
