//go:build hardware

package board

import "testing"

// An output that keeps its line's level reads it and drives it, and so does one that
// takes over a handle. The line does not change.
func TestHardwareKeep(t *testing.T) {
	m := machine(t)
	for _, high := range []bool{false, true} {
		pull(t, 9, high)
		out, err := m.drive(OutputConfig{Line: "GPIO9", ActiveLow: true, Keep: true, Active: high})
		if err != nil {
			t.Fatal(err)
		}
		if active, err := out.Active(); err != nil || active == high || wire(t, 9) != high {
			t.Errorf("pulled high %v: active %v (%v), wire %v", high, active, err, wire(t, 9))
		}
		pull(t, 9, !high)
		if wire(t, 9) != high {
			t.Errorf("pulled high %v: the line is not driven", high)
		}
		copied, err := out.Handle()
		if err != nil {
			t.Fatal(err)
		}
		if err := out.Close(); err != nil {
			t.Error(err)
		}
		again, err := m.Take(copied, out.id, OutputConfig{ActiveLow: true, Keep: true, Active: high})
		if err != nil {
			t.Fatal(err)
		}
		if wire(t, 9) != high {
			t.Errorf("pulled high %v: the wire changed when its handle was taken over", high)
		}
		if err := again.Set(high); err != nil || wire(t, 9) == high { // active is low
			t.Errorf("pulled high %v: Set: %v, wire %v", high, err, wire(t, 9))
		}
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	}
}
