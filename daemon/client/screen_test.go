package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"fieldpost/daemon/api"
	"fieldpost/daemon/goldentest"
)

// shownStatus is the status of the test of PrintStatus with a reading that changes.
func shownStatus(t *testing.T, n int) api.Status {
	t.Helper()
	text, err := os.ReadFile("../api/testdata/status.json")
	if err != nil {
		t.Fatal(err)
	}
	var r api.Status
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	for i, s := range r.Sensors {
		if len(s.Values) > 0 {
			if v, ok := s.Values[0].Value.(float64); ok {
				r.Sensors[i].Seq += uint64(n)
				r.Sensors[i].Values[0].Value = v + math.Round(10*math.Sin(float64(n)/4))
			}
		}
	}
	return r
}

func picture(s *Screen, cols, rows int, style Style) []byte {
	return []byte(strings.Join(s.Draw(cols, rows, style), "\n") + "\n")
}

// The screen as it looks in a wide window, in 80 columns of 24 lines without UTF-8, and while
// the daemon does not answer.
func TestScreenLooks(t *testing.T) {
	var s Screen
	start := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	goldentest.File(t, "testdata/screen-first.txt", picture(&s, 80, 5, Style{}))
	for n := range 40 {
		s.Update(shownStatus(t, n), nil, start.Add(time.Duration(n)*time.Second))
	}
	goldentest.File(t, "testdata/screen-wide.txt", picture(&s, 120, 60, Style{Unicode: true}))
	goldentest.File(t, "testdata/screen-80.txt", picture(&s, 80, 24, Style{}))
	goldentest.File(t, "testdata/screen-colour.txt", bytes.ReplaceAll(picture(&s, 80, 60, Style{Unicode: true, Color: true}), []byte("\x1b"), []byte("ESC")))
	s.Update(api.Status{}, errors.New("fieldpost is not running"), start.Add(time.Minute))
	goldentest.File(t, "testdata/screen-lost.txt", picture(&s, 80, 24, Style{}))
}

// Whatever the size, no line is too long, there are not too many, and nothing of a daemon's
// texts reaches the terminal as a control character.
func TestScreenFits(t *testing.T) {
	var s Screen
	r := shownStatus(t, 1)
	r.Faults = append(r.Faults, api.Fault{Subject: "air", Title: "x\x1b[2Jy\r\n", Detail: strings.Repeat("long ", 60) + strings.Repeat("x", 300)})
	r.Outputs = append(r.Outputs, api.Output{Name: "\x07" + strings.Repeat("é", 90), State: "on"})
	s.Update(r, nil, time.Now())
	for _, cols := range []int{-1, 0, 1, 2, 10, 40, 79, 80, 500} {
		for _, rows := range []int{-1, 0, 1, 2, 3, 4, 5, 10, 24, 200} {
			lines := s.Draw(cols, rows, Style{})
			if len(lines) > max(rows, 0) {
				t.Fatalf("%d lines in %d", len(lines), rows)
			}
			for _, l := range lines {
				if n := utf8.RuneCountInString(l); n > max(cols, 1) || strings.ContainsAny(l, "\x1b\r\n\x07") {
					t.Fatalf("%d columns: %q", cols, l)
				}
			}
			s.Press(KeyPageDown)
		}
	}
}

func press(t *testing.T, s *Screen, keys ...Key) (sent *OrderRequest, thing string) {
	t.Helper()
	for _, k := range keys {
		order, of, quit := s.Press(k)
		if quit {
			t.Fatalf("key %q quits", k)
		}
		if order != nil {
			if sent != nil {
				t.Fatal("two orders")
			}
			sent, thing = order, of
		}
	}
	return sent, thing
}

// An order is sent only after it was confirmed, for the output that was in view.
func TestScreenOrders(t *testing.T) {
	var s Screen
	if o, _ := press(t, &s, 'o', 'y'); o != nil {
		t.Errorf("sent %+v before there was a status", o)
	}
	r := api.Status{Thing: "thing-1", PID: 7, Outputs: []api.Output{{Name: "fan", State: "off"}, {Name: "pump", State: "off"}}}
	now := time.Unix(0, 0)
	s.Update(r, nil, now)
	for _, c := range []struct {
		keys         []Key
		output, want string
	}{
		{[]Key{'o', 'n'}, "", ""},
		{[]Key{'o', KeyDown, 'y'}, "", ""},
		{[]Key{'y'}, "", ""},
		{[]Key{KeyDown, 'o', 'y'}, "pump", "on"},
		{[]Key{KeyDown, 'f', 'Y'}, "pump", "off"},
		{[]Key{KeyUp, KeyUp, 't', 'y'}, "fan", "toggle"},
	} {
		o, thing := press(t, &s, c.keys...)
		switch {
		case o == nil && c.want == "":
		case o == nil || o.Output != c.output || o.Action != c.want || o.Life <= 0 || thing != "thing-1":
			t.Errorf("%v sends %+v to %q, want %s %s", c.keys, o, thing, c.output, c.want)
		default:
			if again, _ := press(t, &s, 'o', 'y'); again != nil {
				t.Error("a second order while the first has no answer")
			}
			s.Answered(api.OrderAnswer{Output: c.output, Status: "refused", Reason: "clock_wrong"}, nil)
			if got := string(picture(&s, 80, 24, Style{})); !strings.Contains(got, "refused: clock_wrong") {
				t.Errorf("the answer is not shown:\n%s", got)
			}
		}
	}

	press(t, &s, KeyDown, 'o') // pump
	r.Outputs = r.Outputs[:1]
	s.Update(r, nil, now)
	if o, _ := press(t, &s, 'y'); o != nil {
		t.Errorf("the output is gone, and an order was sent: %+v", o)
	}
	s.Update(api.Status{}, errors.New("not running"), now)
	if o, _ := press(t, &s, 'o', 'y'); o != nil {
		t.Errorf("nobody answers, and an order was sent: %+v", o)
	}
	for _, k := range []Key{'q', 3} {
		if _, _, quit := s.Press(k); !quit {
			t.Errorf("key %q does not quit", k)
		}
	}
}

// A plot has one mark for each reading, however often the status is asked for.
func TestPlot(t *testing.T) {
	var s Screen
	status := func(pid int, seq uint64, v any) api.Status {
		return api.Status{PID: pid, Sensors: []api.Sensor{{Name: "air", Chip: "tmp102", Seq: seq, Time: time.Unix(int64(seq), 0), Values: api.Values{{Name: "temperature", Value: v}}}}}
	}
	for seq := range uint64(8) {
		for range 3 {
			s.Update(status(1, seq, float64(seq)), nil, time.Unix(0, 0))
		}
	}
	shown := func() string { return draw(s.plots[plotOf{"air", "temperature"}], 8, true) }
	if got := shown(); got != "▁▂▃▄▅▆▇█" {
		t.Errorf("plot %q", got)
	}
	s.Update(status(1, 8, "broken"), nil, time.Unix(0, 0))
	if got := shown(); got != "▁▂▃▄▅▆▇█" {
		t.Errorf("plot after a value that is not a number %q", got)
	}
	s.Update(status(2, 1, 5.0), nil, time.Unix(0, 0))
	if got := shown(); got != "" {
		t.Errorf("plot after a restart %q", got)
	}
	for _, c := range []struct {
		values []float64
		want   string
	}{
		{[]float64{1, 1, 1}, "___"},
		{[]float64{-math.MaxFloat64, 0, math.MaxFloat64}, "_~#"},
		{[]float64{0, 5e-324}, "_#"},
	} {
		if got := draw(&plot{values: c.values}, 10, false); got != c.want {
			t.Errorf("%v: %q, want %q", c.values, got, c.want)
		}
	}
	for n := range 1000 {
		s.Update(status(2, uint64(n), float64(n)), nil, time.Unix(0, 0))
	}
	if n := len(s.plots[plotOf{"air", "temperature"}].values); n != plotLength {
		t.Errorf("%d values are kept", n)
	}
}
