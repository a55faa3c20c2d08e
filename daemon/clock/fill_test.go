package clock

import (
	"testing"
	"time"
)

func TestFill(t *testing.T) {
	truth := time.Date(2026, 11, 21, 19, 0, 0, 0, time.UTC)
	now := Stamp{Boot: "b", Mono: 90 * time.Second, Wall: truth, Synced: true}
	early := Stamp{Boot: "b", Mono: 30 * time.Second, Wall: time.Unix(30, 0)}
	if got, want := Fill(early, now), (Stamp{Boot: "b", Mono: early.Mono, Wall: truth.Add(-time.Minute), Synced: true}); got != want {
		t.Errorf("same boot: %+v, want %+v", got, want)
	}
	for name, c := range map[string]struct{ s, now Stamp }{
		"true already":     {Stamp{Boot: "b", Mono: 1, Wall: time.Unix(5, 0), Synced: true}, now},
		"now is not true":  {early, Stamp{Boot: "b", Mono: now.Mono, Wall: truth}},
		"another boot":     {Stamp{Boot: "a", Mono: 1, Wall: time.Unix(5, 0)}, now},
		"boot is unknown":  {Stamp{Mono: 1, Wall: time.Unix(5, 0)}, Stamp{Mono: 9, Wall: truth, Synced: true}},
		"nothing is known": {Stamp{}, now},
	} {
		if got := Fill(c.s, c.now); got != c.s {
			t.Errorf("%s: %+v became %+v", name, c.s, got)
		}
	}
}
