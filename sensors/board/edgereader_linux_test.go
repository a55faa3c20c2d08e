package board

import (
	"errors"
	"os"
	"slices"
	"testing"
	"time"
)

// Edges wait in the kernel, of which the numbers say how many it dropped.
func TestEdgeReader(t *testing.T) {
	m, k := newFakeMachine(t, map[string]*fakeChip{"gpiochip0": bench("pinctrl-bcm2711", "GPIO0", "GPIO1")})
	got, err := m.EdgeReader(InputConfig{Line: "GPIO1", Pull: PullUp, ActiveLow: true, Debounce: 5 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	var edges []Edge
	read := func(want ...Edge) {
		t.Helper()
		edges, err = got.Read(edges[:0])
		if err != nil || !slices.Equal(edges, want) {
			t.Errorf("read %v, %v, want %v", edges, err, want)
		}
	}
	read()
	k.wire("gpiochip0", 1, false, 1, 0)
	k.wire("gpiochip0", 1, true, 2, 0)
	read(Edge{true, 1, 0}, Edge{false, 2, 0})
	k.wire("gpiochip0", 1, false, 3, 6)
	read(Edge{true, 3, 6})
	read()
	var all []Edge
	for i := range EdgesKept {
		k.wire("gpiochip0", 1, i%2 == 0, time.Duration(i), 0)
		all = append(all, Edge{i%2 == 1, time.Duration(i), 0})
	}
	read(all...)
	if active, err := got.Active(); err != nil || !active {
		t.Errorf("active %v, %v", active, err)
	}
	if id := got.ID(); id.Offset != 1 || id.Name != "GPIO1" {
		t.Errorf("is line %v", id)
	}
	// The poller, which would wake up the process at each edge, does not have the handle.
	if err := got.(*edgeReader).file.SetReadDeadline(time.Now()); !errors.Is(err, os.ErrNoDeadline) {
		t.Errorf("the runtime waits for its events: %v", err)
	}
	if err := k.gone("gpiochip0", 1); err != nil {
		t.Fatal(err)
	}
	if _, err := got.Read(nil); err == nil {
		t.Error("a line that was unplugged reads as silent")
	}
	if err := got.Close(); err != nil {
		t.Error(err)
	}
	if _, err := got.Read(nil); err == nil {
		t.Error("a closed line is read")
	}
	if err := got.Close(); err == nil {
		t.Error("a second close succeeded")
	}
	if _, err := m.EdgeReader(InputConfig{Line: "GPIO7"}); !errors.Is(err, ErrAbsent) {
		t.Errorf("a line that is not there: %v", err)
	}
	if _, err := m.EdgeReader(InputConfig{Line: "GPIO0", Debounce: -1}); err == nil {
		t.Error("a negative debounce is accepted")
	}
}
