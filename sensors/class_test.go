package sensors

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"fieldpost/sensors/sim"
)

// checkReads opens a chip with these options, reads it and compares its fields with want, such as
// "voltage 5.02 V, current 0.1 A".
func checkReads(t *testing.T, b *sim.Board, chip Chip, options any, want string) {
	t.Helper()
	s, err := chip.Open(b, Config{Chip: chip.Name, Options: options})
	if err != nil {
		t.Errorf("%+v: %v", options, err)
		return
	}
	fields, err := s.Sense()
	var got []string
	for i, f := range fields {
		q := s.Quantities()[i]
		if q.Name != f.Name || chip.Symbol(f.Name) != q.Symbol() {
			t.Errorf("%+v: %s is quantity %+v, in the catalog in %q", options, f.Name, q, chip.Symbol(f.Name))
		}
		got = append(got, fmt.Sprintf("%s %v %s", f.Name, f.Value, q.Unit))
	}
	if strings.Join(got, ", ") != want || err != nil {
		t.Errorf("%+v: %q, %v, want %q", options, got, err, want)
	}
}

// checkRefused checks that a chip cannot be opened with these options: that the error contains
// want, and wraps [ErrAbsent] or does not.
func checkRefused(t *testing.T, b *sim.Board, chip Chip, options any, absent bool, want string) {
	t.Helper()
	s, err := chip.Open(b, Config{Chip: chip.Name, Options: options})
	if s != Sensor(nil) && s != Sensor((*iioSensor)(nil)) || err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, ErrAbsent) != absent {
		t.Errorf("%+v: %v, want %q, absent %v", options, err, want, absent)
	}
}
