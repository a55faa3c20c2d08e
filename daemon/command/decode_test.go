package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon/output"
)

const thing = "thing-greenhouse"

// orders is the topic of orders.
const orders = "field/west/orders"

func TestDecode(t *testing.T) {
	for text, want := range map[string]Order{
		`{"id":"c-81","output":"pump","action":"on","for":"30s","expires":"2026-11-21T19:05:00Z"}`: {
			ID: "c-81", Output: "pump", Action: output.ActionOn, For: 30 * time.Second, Expires: time.Date(2026, 11, 21, 19, 5, 0, 0, time.UTC)},
		`{"thing":"thing-greenhouse","action":"off","output":"pump"}`:  {Output: "pump", Action: output.ActionOff},
		` {"output":"p\u00fcmpe", "action":"pulse" , "for":"1m0.5s"} `: {Output: "pümpe", Action: output.ActionPulse, For: time.Minute + 500*time.Millisecond},
		`{"\u0061ction":"toggle","output":"x","id":"` + strings.Repeat("ü", 128) + `"}`: {
			ID: strings.Repeat("ü", 128), Output: "x", Action: output.ActionToggle},
		`{"action":"on","output":"pump","expires":"2026-11-21T20:05:00.25+01:00"}`: {
			Output: "pump", Action: output.ActionOn, Expires: time.Date(2026, 11, 21, 19, 5, 0, 250e6, time.UTC)},
	} {
		got, err := Decode([]byte(text), thing)
		if err != nil || got != want {
			t.Errorf("%s\n%+v, %v; want\n%+v", text, got, err, want)
		}
	}
}

// [CMD-1]
func TestNotAnOrder(t *testing.T) {
	for _, text := range []string{
		"", " ", "on", "pump on", "null", "true", "42", `"action"`, "[]", `[{"action":"on","output":"pump"}]`, "{}", "{", "}",
		`{"action":"on","output":"pump"`, `{"action":"on","output":"pump",}`, `{"action" "on"}`, `{action:"on"}`, `{"action":"on"} x`,
		`{"action":"on","output":"pump"}{"action":"on","output":"pump"}`,
		"{\"action\":\"on\",\"output\":\"p\xffmp\"}", "\xff\xfe{\x00", "\x00",
		`{"Action":"on","output":"pump"}`, `{"output":"pump"}`,
		`{"action":"on","output":"pump","thing":"thing-barn"}`, `{"action":"on","output":"pump","thing":7}`, `{"action":"on","output":"pump","thing":null}`,
		`{"thing":"thing-greenhouse","thing":"thing-barn","action":"on","output":"pump"}`,
		`{"kind":"answer","action":"on","output":"pump"}`, `{"action":"on","output":"pump","kind":null}`,
		`{"thing":"thing-greenhouse","kind":"answer","id":"c-81","status":"done","output":"pump","state":"on"}`,
		`{"thing":"thing-greenhouse","sensor":"air","run":7,"seq":41,"time":"2026-11-21T19:02:11.123Z","temperature":21.53}`,
		`{"message":"hello"}`,
		`{"action":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`,
		strings.Repeat(`{"action":`, 50000),
		strings.Repeat("x", 1<<20),
		// Larger than an order may be, and without an action in the first KiB.
		`{"action":"` + strings.Repeat("x", MaxOrder) + `","output":"pump","id":"a"}`,
		`{"kind":"answer","action":"on","note":"` + strings.Repeat("x", MaxOrder) + `"}`,
		`{"thing":"thing-barn","action":"on","note":"` + strings.Repeat("x", MaxOrder) + `"}`,
		`[{"thing":"thing-greenhouse","action":"on"}` + strings.Repeat(" ", MaxOrder) + `]`,
		// An action after more members than an order has.
		`{"0":0,"1":1,"2":1,"3":1,"4":1,"5":1,"6":1,"7":1,"8":1,"9":1,"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"action":"on"}`,
	} {
		if o, err := Decode([]byte(text), thing); !errors.Is(err, ErrNotOrder) {
			t.Errorf("%.100q: %+v, %v", text, o, err)
		}
	}
}

// [CMD-2]
func TestMalformed(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	for _, c := range []struct {
		text, want string
		code       Code
		id         string
	}{
		{`{"action":"on","output":"pump","id":"a","levl":1}`, `unknown key "levl"`, Malformed, "a"},
		{`{"action":"on","output":"pump","Id":"a"}`, `unknown key "Id"`, Malformed, ""},
		{`{"action":"on","output":"pump","id":"a","output":"valve"}`, `key "output" is given twice`, Malformed, "a"},
		{`{"action":"on","output":"pump","id":"a","id":"b"}`, `key "id" is given twice`, Malformed, ""},
		{`{"action":"on","action":"on","output":"pump","id":"a"}`, `key "action" is given twice`, Malformed, "a"},
		{`{"action":"on","id":"a"}`, "no output", Malformed, "a"},
		{`{"action":"on","output":"","id":"a"}`, "output: want 1 to 128 characters, got 0", Malformed, "a"},
		{`{"action":"on","output":["pump"],"id":"a"}`, "output: want a string, got an array", Malformed, "a"},
		{`{"action":1,"output":"pump","id":"a"}`, "action: want a string, got a number", Malformed, "a"},
		{`{"action":true,"output":"pump","id":"a"}`, "action: want a string, got a truth value", Malformed, "a"},
		{`{"action":{"a":[[[{}]]]},"output":"pump","id":"a"}`, "action: want a string, got an object", Malformed, "a"},
		{`{"action":"blink","output":"pump","id":"a"}`, `"blink"`, UnknownAction, "a"},
		{`{"action":"ON","output":"pump","id":"a"}`, `"ON"`, UnknownAction, "a"},
		{`{"action":"on","output":"pump","id":81}`, "id: want a string, got a number", Malformed, ""},
		{`{"action":"on","output":"pump","id":null}`, "id: want a string, got null", Malformed, ""},
		{`{"action":"on","output":"pump","id":""}`, "id: want 1 to 128 characters, got 0", Malformed, ""},
		{`{"action":"on","output":"pump","id":"` + strings.Repeat("x", 129) + `"}`, "got 129", Malformed, ""},
		{`{"action":"on","output":"pump","id":"a\nb"}`, "id: want printable characters", Malformed, ""},
		{`{"action":"on","output":"pump","id":"\ud800"}`, "id: want printable characters", Malformed, ""},
		{`{"action":"on","output":"pump","id":"a","for":30}`, "for: want a string, got a number", Malformed, "a"},
		{`{"action":"on","output":"pump","id":"a","for":"30"}`, `for: want a duration such as 30s, more than 0, got "30"`, Malformed, "a"},
		{`{"action":"on","output":"pump","id":"a","for":"-3s"}`, `got "-3s"`, Malformed, "a"},
		{`{"action":"on","output":"pump","id":"a","for":"0s"}`, `got "0s"`, Malformed, "a"},
		{`{"action":"on","output":"pump","id":"a","for":"9999999999h"}`, `got "9999999999h"`, Malformed, "a"},
		{`{"action":"on","output":"pump","id":"a","expires":1763751900}`, "expires: want a string, got a number", Malformed, "a"},
		{`{"action":"on","output":"pump","id":"a","expires":"tomorrow"}`, `expires: want a time of RFC 3339`, Malformed, "a"},
		{`{"action":"on","output":"pump","id":"a","expires":"2026-11-21 19:05:00"}`, "RFC 3339", Malformed, "a"},
		{`{"action":"on","output":"pump","id":"a","expires":"2026-02-30T19:05:00Z"}`, "RFC 3339", Malformed, "a"},
		{`{"action":"on","output":"pump","id":"a","expires":"0001-01-01T00:00:00Z"}`, "RFC 3339", Malformed, "a"},
		{`{"levl":1,"action":"on","output":"pump","id":"last"}`, `unknown key "levl"`, Malformed, "last"},
		{`{"action":"on","output":"pump","id":"a","note":"` + long + `"}`, "bytes", TooLarge, "a"},
		{`{"id":"a","action":"on","output":"pump"` + strings.Repeat(`,"x":1`, 12000), "bytes", TooLarge, "a"},
		{`{"action":"on","note":"` + long + `","id":"a"}`, "bytes", TooLarge, ""}, // the id is behind what is looked at
		{`{"id":"a","output":"pump","action":"on"` + strings.Repeat(`,"x":1`, 20) + `}`, `unknown key "x"`, Malformed, "a"},
		{`{"action":"on","1":1,"2":1,"3":1,"4":1,"5":1,"6":1,"7":1,"8":1,"9":1,"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"id":"a"`, "unknown key", Malformed, ""},
	} {
		_, err := Decode([]byte(c.text), thing)
		var r *RefusedError
		if !errors.As(err, &r) {
			t.Errorf("%.100s: error %v", c.text, err)
			continue
		}
		if r.Code != c.code || r.ID != c.id || !strings.Contains(r.Detail, c.want) {
			t.Errorf("%.100s: %+v, want %s with %q and id %q", c.text, r, c.code, c.want, c.id)
		}
		if len(err.Error()) > 300 || !strings.HasPrefix(err.Error(), "order refused: "+string(c.code)) {
			t.Errorf("%.100s: error %.400s", c.text, err)
		}
	}
	if got := (&RefusedError{Code: Retained}).Error(); got != "order refused: retained" {
		t.Errorf("without detail: %q", got)
	}
}

// Deeply nested messages are refused or ignored, and cost no more than flat ones. The id
// of a malformed order is returned if it can be read.
func TestDeepOrders(t *testing.T) {
	for depth, want := range map[int]string{1: "an array", 100: "an array", 9_990: "an array", 20_000: ""} {
		nested := strings.Repeat("[", depth) + strings.Repeat("]", depth)
		for _, text := range []string{
			`{"id":"a","action":"on","output":"pump","for":` + nested + `}`,
			`{"id":"a","for":` + nested + `,"action":"on","output":"pump"}`,
		} {
			o, err := Decode([]byte(text), thing)
			var r *RefusedError
			switch {
			case want == "" && !errors.Is(err, ErrNotOrder): // too deep for any JSON parser
				t.Errorf("depth %d: %+v, %v", depth, o, err)
			case want != "" && (!errors.As(err, &r) || r.ID != "a" || r.Output != "pump" || !strings.Contains(r.Detail, want)):
				t.Errorf("depth %d: %+v, %v", depth, o, err)
			}
		}
	}
}

// Very large numbers, and texts that only look like a time.
func TestValuesOutOfRange(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`"for":1e999`, "for: want a string, got a number"},
		{`"for":-0`, "for: want a string, got a number"},
		{`"for":99999999999999999999999999999999`, "for: want a string, got a number"},
		{`"for":"1e3s"`, `for: want a duration`},
		{`"for":"9223372036854775808ns"`, `for: want a duration`},
		{`"for":"NaN"`, `for: want a duration`},
		{`"for":"1h 30m"`, `for: want a duration`},
		{`"for":""`, `for: want a duration`},
		{`"expires":"10000-01-01T00:00:00Z"`, "RFC 3339"},
		{`"expires":"2026-11-21T24:00:00Z"`, "RFC 3339"},
		{`"expires":"2026-11-21T19:05:61Z"`, "RFC 3339"},
		{`"expires":"2026-11-21T19:05:00"`, "RFC 3339"},
		{`"expires":"2026-11-21T19:05:00+24:00"`, "RFC 3339"},
		{`"expires":"2026-11-21T9:05:00Z"`, "RFC 3339"},
		{`"expires":"2026-11-21T19:05:00,5Z"`, "RFC 3339"},
		{`"expires":""`, "RFC 3339"},
	} {
		_, err := Decode([]byte(`{"id":"a","action":"on","output":"pump",`+c.text+`}`), thing)
		var r *RefusedError
		if !errors.As(err, &r) || r.Code != Malformed || r.ID != "a" || !strings.Contains(r.Detail, c.want) {
			t.Errorf("%s: %v, want malformed with %q", c.text, err, c.want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"id":"c-81","output":"pump","action":"on","for":"30s","expires":"2026-11-21T19:05:00Z","thing":"thing-greenhouse"}`,
		`{"action":"on","output":"pump","id":"a","id":"b"}`, `{"kind":"answer"}`, `[[[[`, `{"action":{"a":[1,2,{"b":null}]}}`,
		"{\"action\":\"\xff\"}", `{"action":"off","output":"\ud800"}`, `{"action":"on"} {}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		o, err := Decode(payload, thing)
		var members map[string]any
		d := json.NewDecoder(bytes.NewReader(payload))
		d.UseNumber() // numbers may exceed any float
		isObject := json.Valid(payload) && d.Decode(&members) == nil && members != nil
		if errors.Is(err, ErrNotOrder) {
			return
		}
		if !isObject {
			t.Fatalf("taken for an order, but no JSON object: %+v, %v", o, err)
		}
		if _, ok := members["action"]; !ok {
			t.Fatal("taken for an order without action")
		}
		if name, ok := members["thing"]; ok && name != thing {
			t.Fatal("taken for an order to this board")
		}
		if _, ok := members["kind"]; ok {
			t.Fatal("taken for an order with a kind")
		}
		var refused *RefusedError
		if errors.As(err, &refused) {
			if len(refused.Error()) > 1000 {
				t.Fatalf("a reason of %d bytes", len(refused.Error()))
			}
			return
		}
		if err != nil || o.Output != members["output"] || string(o.Action) != members["action"] || o.For < 0 {
			t.Fatalf("%+v, %v", o, err)
		}
		if id, ok := members["id"]; ok != (o.ID != "") || ok && id != o.ID {
			t.Fatalf("id %q of %v", o.ID, id)
		}
	})
}

// A refused or ignored message costs no more to parse than an order, whatever it
// contains. [CMD-2]
func TestCostOfParsing(t *testing.T) {
	for name, text := range map[string]string{
		"keys":        `{"action":"on"` + strings.Repeat(`,"k":1`, MaxOrder/6-10) + `}`,
		"other keys":  `{"a":1` + strings.Repeat(`,"k":1`, MaxOrder/6-10) + `}`,
		"1 MB of it":  `{"action":"on"` + strings.Repeat(`,"k":1`, 1<<20/6) + `}`,
		"1 MB of one": `{"action":"on","k":[` + strings.Repeat(`1,`, 1<<19) + `1]}`,
		"nested":      `{"action":"on","k":` + strings.Repeat(`{"k":`, 9000) + "1" + strings.Repeat("}", 9000) + `}`,
	} {
		payload := []byte(text)
		if n := testing.AllocsPerRun(5, func() { _, _ = Decode(payload, thing) }); n > 300 {
			t.Errorf("%s, %d bytes: %.0f allocations", name, len(text), n)
		}
	}
}
