package board

import (
	"errors"
	"testing"

	"github.com/warthog618/go-gpiocdev/uapi"
	"golang.org/x/sys/unix"
)

// A line that must keep its level is requested without a direction, and then driven at
// the level that was read.
func TestOutputKeepsLevel(t *testing.T) {
	for _, c := range []struct{ high, activeLow bool }{{false, false}, {true, false}, {false, true}, {true, true}} {
		m, k, lines := benchMachine(t)
		pump := lines[1]
		pump.high = c.high
		var asked uapi.LineFlagV2
		k.asked = func(r *uapi.LineRequest) { asked = r.Config.Flags }
		out, err := m.Output(OutputConfig{Line: "PUMP", ActiveLow: c.activeLow, Drive: OpenDrain, Keep: true, Active: c.high == c.activeLow})
		if err != nil {
			t.Fatal(err)
		}
		if pump.high != c.high || asked.IsOutput() || asked.IsInput() {
			t.Errorf("%+v: high %v, asked with flags %b", c, pump.high, asked)
		}
		if f := pump.request.Config.Flags; !f.IsOutput() || !f.IsOpenDrain() || f.IsActiveLow() != c.activeLow {
			t.Errorf("%+v: driven with flags %b", c, f)
		}
		if active, err := out.Active(); err != nil || active != (c.high != c.activeLow) {
			t.Errorf("%+v: active %v, %v", c, active, err)
		}
		if err := out.Set(c.high == c.activeLow); err != nil || pump.high == c.high {
			t.Errorf("%+v: Set: %v, high %v", c, err, pump.high)
		}
		if err := out.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Take with Keep does not change the level of a handle's line.
func TestTakeKeepsLevel(t *testing.T) {
	m, _, lines := benchMachine(t)
	held, err := m.drive(OutputConfig{Line: "PUMP", Active: true})
	if err != nil {
		t.Fatal(err)
	}
	out, err := m.Take(held.file, held.id, OutputConfig{Keep: true})
	if err != nil || !lines[1].high || lines[1].requests != 1 {
		t.Fatalf("%v, high %v after %d requests", err, lines[1].high, lines[1].requests)
	}
	if err := out.Close(); err != nil {
		t.Error(err)
	}
}

// A line whose level cannot be read is not driven, and is released.
func TestKeepUnreadableOutput(t *testing.T) {
	m, k, lines := benchMachine(t)
	k.asked = func(*uapi.LineRequest) { lines[1].broken = unix.EIO }
	if _, err := m.Output(OutputConfig{Line: "PUMP", Keep: true}); !errors.Is(err, unix.EIO) {
		t.Errorf("error %v", err)
	}
	if lines[1].held() {
		t.Error("the line is still held")
	}
	if _, err := m.Output(OutputConfig{Line: "DOOR", Keep: true, Drive: "push"}); err == nil {
		t.Error("a drive that is none was accepted")
	}
	if lines[0].held() {
		t.Error("the other line is still held")
	}
	lines[0].holder = "gpio-keys"
	var busy *BusyError
	if _, err := m.Output(OutputConfig{Line: "DOOR", Keep: true}); !errors.As(err, &busy) || busy.Holder != "gpio-keys" {
		t.Errorf("a busy line: %v", err)
	}
}
