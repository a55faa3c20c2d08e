package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/sensors/board"
)

// header is a board whose lines are connected as nets say. A net has the level of the output
// that drives it, or of what is outside, or of the pulls.
type header struct {
	board.Board
	t     *testing.T
	nets  map[string]string // the net of a line; its own name unless listed
	keeps bool              // released lines keep their level

	mu      sync.Mutex
	outside map[string]bool   // nets that something else drives
	holders map[string]string // lines that somebody holds
	drives  map[string]bool   // outputs, and those that the kernel keeps
	pulls   map[string]board.Pull
	inputs  map[string]*input
	driven  []string // each line that was ever driven
	at      time.Duration
}

func newHeader(t *testing.T, nets map[string]string) *header {
	return &header{t: t, nets: nets, outside: map[string]bool{}, holders: map[string]string{}, drives: map[string]bool{},
		pulls: map[string]board.Pull{}, inputs: map[string]*input{}}
}

// wired has both wires in their places.
func wired(t *testing.T) *header {
	return newHeader(t, map[string]string{"GPIO27": "GPIO22", "GPIO24": "GPIO23"})
}

func (h *header) net(line string) string {
	if net, ok := h.nets[line]; ok {
		return net
	}
	return line
}

// levelLocked is the level of a line's net. Two outputs that drive it against each other, or
// one that drives it against something outside, fail the test: on a board they would burn.
func (h *header) levelLocked(line string) bool {
	net := h.net(line)
	high, driven := h.outside[net]
	for other, level := range h.drives {
		if h.net(other) != net {
			continue
		}
		if driven && level != high {
			h.t.Errorf("%s is driven against something else", other)
		}
		high, driven = level, true
	}
	if driven {
		return high
	}
	up := false
	for other, pull := range h.pulls {
		up = up || h.net(other) == net && pull == board.PullUp
	}
	return up
}

// change makes a change, and reports the edges that it makes to the inputs.
func (h *header) change(by func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := map[string]bool{}
	for line := range h.inputs {
		before[line] = h.levelLocked(line)
	}
	by()
	h.at += time.Millisecond
	for line, in := range h.inputs {
		if now, was := h.levelLocked(line), before[line]; now != was {
			in.edges <- board.Edge{Active: now, Mono: h.at}
		}
	}
}

func (h *header) take(line string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if holder, held := h.holders[line]; held {
		return &board.BusyError{Line: board.LineID{Label: "pinctrl-test", Name: line}, Holder: holder}
	}
	h.holders[line] = consumer
	return nil
}

func (h *header) Input(c board.InputConfig) (board.Input, error) {
	if err := h.take(c.Line); err != nil {
		return nil, err
	}
	in := &input{h: h, line: c.Line, edges: make(chan board.Edge, 100)}
	h.change(func() { delete(h.drives, c.Line); h.pulls[c.Line] = c.Pull })
	h.mu.Lock()
	defer h.mu.Unlock()
	h.inputs[c.Line] = in
	return in, nil
}

func (h *header) Output(c board.OutputConfig) (board.Output, error) {
	if err := h.take(c.Line); err != nil {
		return nil, err
	}
	h.change(func() { h.drives[c.Line] = c.Active; h.driven = append(h.driven, c.Line) })
	return &output{h: h, line: c.Line}, nil
}

type input struct {
	board.Input
	h     *header
	line  string
	edges chan board.Edge
}

func (in *input) Active() (bool, error) {
	in.h.mu.Lock()
	defer in.h.mu.Unlock()
	return in.h.levelLocked(in.line), nil
}

func (in *input) Edges() <-chan board.Edge { return in.edges }

func (in *input) Close() error {
	in.h.mu.Lock()
	defer in.h.mu.Unlock()
	if in.h.inputs[in.line] != in {
		return errors.New("closed twice")
	}
	delete(in.h.inputs, in.line)
	delete(in.h.holders, in.line)
	close(in.edges)
	return nil
}

type output struct {
	board.Output
	h    *header
	line string
}

func (o *output) Close() error {
	o.h.change(func() {
		delete(o.h.holders, o.line)
		if !o.h.keeps {
			delete(o.h.drives, o.line)
		}
	})
	return nil
}

var bothWires = []string{"GPIO22=GPIO27,up", "GPIO23=GPIO24,down"}

// examine examines both wires, and checks that every line is an undriven input afterwards.
func examine(t *testing.T, h *header) (keeps bool, err error) {
	t.Helper()
	wires, err := parseWires(bothWires)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		keeps, err = (&prober{board: h, settle: time.Second}).examine(t.Context(), wires)
	})
	if len(h.drives) > 0 || len(h.inputs) > 0 {
		t.Errorf("still driven: %v; still open: %v", h.drives, h.inputs)
	}
	for _, line := range []string{"GPIO22", "GPIO27", "GPIO23", "GPIO24"} {
		if h.holders[line] == "" && h.pulls[line] != board.PullDown {
			t.Errorf("%s is left with the pull %q, and has another after power-on", line, h.pulls[line])
		}
	}
	return keeps, err
}

func TestWiresInPlace(t *testing.T) {
	for _, keeps := range []bool{false, true} {
		h := wired(t)
		h.keeps = keeps
		got, err := examine(t, h)
		if err != nil || got != keeps {
			t.Errorf("a kernel that keeps levels: %v; got %v, %v", keeps, got, err)
		}
		for _, line := range h.driven {
			if line != "GPIO22" && line != "GPIO23" {
				t.Errorf("%s is an input and was driven", line)
			}
		}
	}
}

func TestWiresNotInPlace(t *testing.T) {
	for name, c := range map[string]struct {
		nets map[string]string
		want []string
	}{
		"no wire":   {nil, []string{"GPIO27 (pin 13) does not follow GPIO22 (pin 15): no wire joins them", "GPIO24 (pin 18) does not follow GPIO23 (pin 16): no wire joins them"}},
		"one wire":  {map[string]string{"GPIO27": "GPIO22"}, []string{"GPIO24 (pin 18) does not follow GPIO23 (pin 16)"}},
		"exchanged": {map[string]string{"GPIO24": "GPIO22", "GPIO27": "GPIO23"}, []string{"GPIO24 (pin 18) follows GPIO22 (pin 15), which should be joined to GPIO27 (pin 13) alone", "GPIO27 (pin 13) follows GPIO23"}},
		"outputs":   {map[string]string{"GPIO27": "GPIO22", "GPIO24": "GPIO22", "GPIO23": "GPIO22"}, []string{"GPIO23 (pin 16) follows GPIO22 (pin 15)"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := examine(t, newHeader(t, c.nets))
			contains(t, err, c.want...)
		})
	}
}

// Nothing is driven before it is known that nothing else is on the lines.
func TestSomethingElseOnTheLines(t *testing.T) {
	for _, high := range []bool{false, true} {
		for net, line := range map[string]string{"GPIO22": "GPIO22 (pin 15)", "GPIO23": "GPIO24 (pin 18)"} {
			h := wired(t)
			h.outside[net] = high
			_, err := examine(t, h)
			contains(t, err, fmt.Sprintf("%s is %s though it is pulled %s: something else is connected to it", line, level(high), upDown(!high)))
			if len(h.driven) > 0 {
				t.Errorf("driven: %v", h.driven)
			}
		}
	}
}

func TestLineInUse(t *testing.T) {
	h := wired(t)
	h.holders["GPIO27"] = "dht11@0"
	_, err := examine(t, h)
	contains(t, err, "GPIO27 (pin 13) is in use", "is held by dht11@0")
	if len(h.driven) > 0 {
		t.Errorf("driven: %v", h.driven)
	}
}

// Ctrl-C at any moment leaves no line driven.
func TestExamineInterrupted(t *testing.T) {
	wires, err := parseWires(bothWires)
	if err != nil {
		t.Fatal(err)
	}
	for after := time.Duration(0); after < 10*time.Second; after += time.Second {
		h := wired(t)
		h.keeps = true
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), after+time.Second/2)
			defer cancel()
			if _, err := (&prober{board: h, settle: time.Second}).examine(ctx, wires); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("interrupted after %v: %v", after, err)
			}
		})
		if len(h.drives) > 0 || len(h.inputs) > 0 {
			t.Errorf("interrupted after %v: still driven: %v; still open: %v", after, h.drives, h.inputs)
		}
	}
}

func TestParseWires(t *testing.T) {
	for arg, want := range map[string]string{
		"GPIO22":              "want OUT=IN",
		"GPIO22=":             "line is empty",
		"GPIO22=GPIO22":       "GPIO22 is on the wire",
		"GPIO22=P1_15":        "GPIO22 is on the wire",
		"GPIO22=GPIO27,left":  `pull "left": want up, down or none`,
		"PIN_LED=GPIO27":      "no GPIO number",
		"gpiochip0:3=GPIO27":  "no GPIO number",
		"GPIO22=P1_1":         "is no GPIO",
		"GPIO22=GPIO27=GPIO5": `"GPIO27=GPIO5"`,
	} {
		_, err := parseWires([]string{arg})
		contains(t, err, want)
	}
	_, err := parseWires([]string{"GPIO22=GPIO27", "GPIO23=GPIO27"})
	contains(t, err, `GPIO27 is on the wire "GPIO22=GPIO27" too`)
}

func TestRecord(t *testing.T) {
	wires, err := parseWires(bothWires)
	if err != nil {
		t.Fatal(err)
	}
	h := wired(t)
	var text bytes.Buffer
	readyAfter := 0
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		r := &recorder{board: h, to: &text, ready: func() error { readyAfter = strings.Count(text.String(), " line "); return nil }, now: func() (time.Duration, error) { return time.Second, nil }}
		go func() { ended <- r.run(ctx, wires) }()
		synctest.Wait()
		h.change(func() { h.drives["GPIO22"] = false })
		h.change(func() { h.drives["GPIO23"] = true })
		h.change(func() { delete(h.drives, "GPIO22") })
		synctest.Wait()
		h.inputs["GPIO27"].edges <- board.Edge{Active: false, Mono: time.Minute, Lost: 3} // waits when the recorder is stopped
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	if readyAfter != 2 {
		t.Errorf("ready after %d lines, want one for each wire", readyAfter)
	}
	var got [2][]string // of each wire, for they are not in one order
	for line := range strings.Lines(text.String()) {
		f := strings.Fields(line)
		i := slices.Index([]string{"22", "23"}, f[2])
		got[i] = append(got[i], strings.Join(f[1:], " "))
	}
	want := [2][]string{
		{"line 22 1", "level 22 0 wire", "level 22 1 wire", "lost 22 3", "level 22 0 wire"},
		{"line 23 0", "level 23 1 wire"},
	}
	for i := range want {
		if !slices.Equal(got[i], want[i]) {
			t.Errorf("recorded %q, want %q\n%s", got[i], want[i], text.String())
		}
	}
	if !strings.Contains(text.String(), "1000.000 line 22 1\n") || !strings.Contains(text.String(), "60000.000 lost 22 3\n") {
		t.Errorf("not the times of the clock and of the kernel, in milliseconds:\n%s", text.String())
	}
	if len(h.inputs) > 0 {
		t.Errorf("still open: %v", h.inputs)
	}
}

// The recorder begins while fieldpost drives an output.
func TestRecordOutputInUse(t *testing.T) {
	h := wired(t)
	h.holders["GPIO22"], h.drives["GPIO22"] = "fieldpost", true
	text, err := recordFirst(t, h)
	if err != nil || !strings.Contains(text, "line 22 1\n") {
		t.Errorf("%v, %q", err, text)
	}
	h = wired(t)
	h.holders["GPIO24"] = "fieldpost"
	_, err = recordFirst(t, h)
	contains(t, err, "GPIO24 (pin 18) is in use")
	if len(h.inputs) > 0 {
		t.Errorf("still open: %v", h.inputs)
	}
}

// recordFirst records what there is at the beginning.
func recordFirst(t *testing.T, h *header) (string, error) {
	t.Helper()
	wires, err := parseWires(bothWires)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	var text bytes.Buffer
	err = (&recorder{board: h, to: &text, ready: func() error { return nil }, now: func() (time.Duration, error) { return 0, nil }}).run(ctx, wires)
	return text.String(), err
}

// A full disk ends the recorder: silence would look like a line that does nothing.
func TestRecordDiskFull(t *testing.T) {
	wires, err := parseWires(bothWires[:1])
	if err != nil {
		t.Fatal(err)
	}
	h := wired(t)
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 1)
		r := &recorder{board: h, to: &fullDisk{room: 1}, ready: func() error { return nil }, now: func() (time.Duration, error) { return 0, nil }}
		go func() { ended <- r.run(t.Context(), wires) }()
		synctest.Wait()
		h.change(func() { h.drives["GPIO22"] = false })
		contains(t, <-ended, "no space left")
	})
}

type fullDisk struct{ room int }

func (d *fullDisk) Write(p []byte) (int, error) {
	if d.room == 0 {
		return 0, errors.New("no space left on device")
	}
	d.room--
	return len(p), nil
}

func TestPowerOnPull(t *testing.T) {
	for line, want := range map[string]board.Pull{"GPIO0": board.PullUp, "GPIO8": board.PullUp, "P1_5": board.PullUp, "GPIO9": board.PullDown, "GPIO22": board.PullDown} {
		if got := powerOnPull(line); got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}

func contains(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want %q", words)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q, want %q", err, w)
		}
	}
}
