package command

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/output"
	"fieldpost/sensors/sim"
)

// An order with a level needs no action. Without an output such an object is none of ours.
func TestDecodeLevel(t *testing.T) {
	for text, want := range map[string]Order{
		`{"output":"fan","level":40}`:                  {Output: "fan", Action: output.ActionSet, Level: 40_00},
		`{"output":"fan","level":0}`:                   {Output: "fan", Action: output.ActionSet},
		`{"output":"fan","level":12.5,"action":"set"}`: {Output: "fan", Action: output.ActionSet, Level: 12_50},
		`{"output":"fan","action":"on"}`:               {Output: "fan", Action: output.ActionOn},
	} {
		if o, err := Decode([]byte(text), thing); err != nil || o != want {
			t.Errorf("%s: %+v, %v", text, o, err)
		}
	}
	for text, want := range map[string]string{
		`{"output":"fan","level":101}`:               "want percent from 0 to 100",
		`{"output":"fan","level":-1}`:                "want percent from 0 to 100",
		`{"output":"fan","level":0.001}`:             "at most two decimals",
		`{"output":"fan","level":1e400}`:             "want a number of percent",
		`{"output":"fan","level":"40"}`:              "got a string",
		`{"output":"fan","level":"40%"}`:             "got a string",
		`{"output":"fan","level":null}`:              "got null",
		`{"output":"fan","level":true}`:              "got a truth value",
		`{"output":"fan","level":40,"level":50}`:     "given twice",
		`{"output":"fan","level":40,"action":"on"}`:  "level does not go with action",
		`{"output":"fan","action":"set"}`:            "action set needs level",
		`{"output":"fan","level":40,"percent":true}`: "unknown key",
	} {
		var refused *RefusedError
		if _, err := Decode([]byte(text), thing); !errors.As(err, &refused) || refused.Code != Malformed || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	for _, text := range []string{
		`{"sensor":"tank","level":40}`, `{"level":40}`, `{"kind":"event","output":"fan","level":40}`, `{"thing":"other","output":"fan","level":40}`,
	} {
		if _, err := Decode([]byte(text), thing); !errors.Is(err, ErrNotOrder) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// The gate knows levels: an order to the safe level needs nothing, any other one id and
// expires. An id acts once, also with another level, and gets its first answer again.
func TestLevelsAtTheGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		bank := output.Open(output.Options{Board: b, Clock: clock.Fake(), Outputs: []output.Config{
			{Name: "fan", PWM: "pwmchip0:0", Frequency: 25_000, Safe: output.Safe(20_00), Initial: output.Initial(20_00)}, {Name: "pump", Pin: "GPIO27"},
		}})
		h := &harness{t: t, pins: newPins()}
		h.dispatcher = New(Options{Thing: thing, Topic: orders, Outputs: bank, Clock: clock.Fake(), Answer: h.answered})
		stamped := func(id string) string {
			return `"id":"` + id + `","expires":"` + time.Now().Add(time.Minute).Format(time.RFC3339) + `",`
		}
		for _, c := range []struct {
			text   string
			status Status
			reason Code
			level  Percent
			share  float64
		}{
			{`{"output":"fan","level":40}`, Refused, Unstamped, Percent{}, 0.2},
			{`{` + stamped("a") + `"output":"fan","level":40}`, Done, "", Percent{40, true}, 0.4},
			{`{` + stamped("a") + `"output":"fan","level":90}`, Done, "", Percent{40, true}, 0.4},
			{`{"output":"fan","level":20}`, Done, "", Percent{20, true}, 0.2},
			{`{` + stamped("b") + `"output":"pump","level":40}`, Refused, NoLevels, Percent{}, 0.2},
			{`{` + stamped("c") + `"output":"pump","level":100}`, Done, "", Percent{}, 0.2},
			{`{"output":"fan","action":"off"}`, Refused, Unstamped, Percent{}, 0.2},
			{`{` + stamped("d") + `"output":"fan","action":"off"}`, Done, "", Percent{0, true}, 0},
		} {
			a, ok := h.dispatcher.Handle([]byte(c.text), false, "test")
			if !ok || a.Status != c.status || a.Reason != c.reason || a.Level != c.level {
				t.Errorf("%s: %+v", c.text, a)
			}
			if got := b.Channel("pwmchip0:0").Share(); got != c.share {
				t.Errorf("%s: at %v, want %v", c.text, got, c.share)
			}
		}
		if err := bank.Close(); err != nil {
			t.Error(err)
		}
	})
}

// The ledger keeps levels, and reads records that have none.
func TestLevelsInTheLedger(t *testing.T) {
	o := Order{ID: "a", Output: "fan", Action: output.ActionSet, Level: 12_50, Expires: time.Unix(1e9, 0).UTC()}
	k := &knownOrder{order: o, answer: &Answer{ID: "a", Status: Done, Output: "fan", State: "on", Level: Percent{12.5, true}}}
	r, err := decodeRecord(k.wholeRecord().encode())
	if err != nil {
		t.Fatal(err)
	}
	if again := r.knownOrder(); !again.order.same(o) || again.answer.Level != (Percent{12.5, true}) {
		t.Errorf("%+v, %+v", again.order, again.answer)
	}
	if other := o; !o.same(other) {
		t.Error("an order differs from itself")
	}
	if other := (Order{ID: "a", Output: "fan", Action: output.ActionSet, Level: 12_51, Expires: o.Expires}); o.same(other) {
		t.Error("another level is the same order")
	}
	old, err := decodeRecord([]byte(`{"v":1,"id":"b","order":{"output":"pump","action":"on"},"answer":{"status":"done","output":"pump","state":"on"}}`))
	if a := old.knownOrder(); err != nil || a.order.Level != 0 || a.answer.Level.Known {
		t.Errorf("%+v, %v", a, err)
	}
}
