package output

import (
	"strings"
	"testing"
)

func TestLevelsAsText(t *testing.T) {
	for text, want := range map[string]Safe{"off": SafeOff, "false": SafeOff, "on": SafeOn, "true": SafeOn, "keep": SafeKeep} {
		var s Safe
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("safe %q: %s, %v", text, s, err)
		}
		level, ok := s.Level()
		if again, err := s.MarshalText(); err != nil || ok != (text != "keep") || ok && string(again) != level.String() {
			t.Errorf("safe %q: level %s, %v; written %q, %v", text, level, ok, again, err)
		}
	}
	for text, want := range map[string]Initial{"off": InitialOff, "on": InitialOn, "true": InitialOn, "last": InitialLast, "keep": InitialKeep} {
		var i Initial
		if err := i.UnmarshalText([]byte(text)); err != nil || i != want {
			t.Errorf("initial %q: %s, %v", text, i, err)
		}
		if again, err := i.MarshalText(); err != nil || text != "true" && string(again) != text {
			t.Errorf("initial %q is written %q, %v", text, again, err)
		}
	}
	for _, bad := range []string{"", "last", "ON", "safe"} {
		if err := new(Safe).UnmarshalText([]byte(bad)); err == nil || !strings.Contains(err.Error(), "off, on or keep") {
			t.Errorf("safe %q: %v", bad, err)
		}
		if err := new(Initial).UnmarshalText([]byte(bad)); bad != "last" && (err == nil || !strings.Contains(err.Error(), "off, on, last or keep")) {
			t.Errorf("initial %q: %v", bad, err)
		}
	}
	if s := Safe(9).String(); !strings.Contains(s, "9") {
		t.Errorf("a level that is none is %q", s)
	}
}
