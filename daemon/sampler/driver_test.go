package sampler

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"fieldpost/daemon/health"
	"fieldpost/sensors"
	"fieldpost/sensors/board"
)

func TestExplain(t *testing.T) {
	b := &fakeBoard{absent: []string{"i2c-9"}}
	for _, tt := range []struct {
		err  error
		bus  string
		want health.Code
	}{
		{board.ErrAbsent, "i2c-1", health.NoAnswer},
		{board.ErrAbsent, "i2c-9", health.Absent},
		{board.ErrAbsent, "", health.Absent},
		{sensors.ErrSilent, "", health.NoAnswer},
		{sensors.ErrFault, "i2c-1", health.WrongAnswer},
		{fs.ErrPermission, "i2c-1", health.Denied},
		{&board.BusyError{Holder: "gpio-keys"}, "", health.LineBusy},
		{errWire, "i2c-1", health.ReadFailed},
	} {
		err := explain(fmt.Errorf("read: %w", tt.err), b, sensors.Config{Options: sensors.I2C{Bus: tt.bus}})
		if got := codeOf(err); got != tt.want {
			t.Errorf("%v on %q: got %s, want %s", tt.err, tt.bus, got, tt.want)
		}
		if !errors.Is(err, tt.err) {
			t.Errorf("%v is lost in %v", tt.err, err)
		}
	}
	if got := codeOf(errWire); got != health.ReadFailed {
		t.Errorf("an error of no driver is %s", got)
	}
}

func TestDetail(t *testing.T) {
	if got := detail(errors.New("one\ntwo")); got != "one" {
		t.Errorf("got %q", got)
	}
	got := detail(errors.New(strings.Repeat("é", 200) + "x"))
	if len(got) > maxDetail+3 || !utf8.ValidString(got) || !strings.HasSuffix(got, "é...") {
		t.Errorf("got %d bytes: %q", len(got), got)
	}
	if got := detail(errors.New("x" + strings.Repeat("é", 200))); !utf8.ValidString(got) {
		t.Errorf("got %q", got)
	}
}

func TestBreakerBacksOff(t *testing.T) {
	var b breaker
	var got []string
	for range 12 {
		got = append(got, b.fail(time.Hour).String())
	}
	same(t, "times", got, []string{"1s", "1s", "1s", "2s", "4s", "8s", "16s", "32s", "1m0s", "1m0s", "1m0s", "1m0s"})
	b.succeed()
	if b.isOpen() || b.fail(0) != time.Second {
		t.Error("success was not forgotten")
	}
}

// The times of a plan lie on its grid, whatever happens in between.
func TestPlan(t *testing.T) {
	start := time.Now()
	p := plan{every: 10 * time.Second}
	p.start(start, start)
	at := func(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }
	if !p.due(start) {
		t.Fatal("not due at once")
	}
	if p.due(at(10.5)) || !p.next.Equal(at(20)) {
		t.Errorf("busy at 10.5s: next at %v", p.next.Sub(start))
	}
	p.finish(at(11), 0)
	if p.due(at(19.9)) || !p.due(at(61)) || !p.next.Equal(at(70)) {
		t.Errorf("after a pause of a minute: next at %v", p.next.Sub(start))
	}
	p.finish(at(61), 2*time.Second)
	if p.untilDue(at(61)) != 2*time.Second || p.untilDue(at(70)) != 0 {
		t.Errorf("after a failure: waits %v", p.untilDue(at(61)))
	}
	p.retryNow(at(62))
	if !p.due(at(62)) {
		t.Error("not hastened")
	}
	p.finish(at(62), 0)
	p.retryNow(at(63))
	if p.due(at(63)) {
		t.Error("due though it does not fail")
	}
	never := plan{}
	never.start(start, start)
	if !never.due(start) || never.due(at(1e6)) || never.untilDue(at(1e6)) != beatEvery {
		t.Error("a sensor without a period is not read just once")
	}
}

// The scheduler is woken for a failure and for the first success after one.
func TestSuccessWakesNobody(t *testing.T) {
	r, outcomes := &runner{}, make(chan outcome, 1)
	for i, c := range []struct {
		retry       time.Duration
		woken, well bool
	}{{0, false, true}, {time.Second, true, false}, {time.Second, true, false}, {0, true, false}, {0, false, true}} {
		r.report(t.Context(), outcome{runner: r, retry: c.retry}, outcomes)
		if woken, well := len(outcomes) > 0, r.well.Swap(false); woken != c.woken || well != c.well {
			t.Errorf("request %d: woken %v, well %v", i, woken, well)
		}
		for len(outcomes) > 0 {
			<-outcomes
		}
	}
}
