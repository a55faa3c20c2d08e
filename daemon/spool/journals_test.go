package spool

import (
	"errors"
	"slices"
	"testing"

	"fieldpost/daemon/journal"
	"fieldpost/daemon/message"
)

// entries gives what a journal's file holds.
func entries(t *testing.T, j *journal.File) (out []string) {
	t.Helper()
	if _, err := j.Replay(func(b []byte) { out = append(out, string(b)) }); err != nil {
		t.Fatal(err)
	}
	return out
}

// The spool's own work leaves a journal alone, and Close ends it.
func TestJournalBesideTheSpool(t *testing.T) {
	r := newRig(t, newMemDisk(), Options{})
	j := r.s.Journal("orders")
	if err := errors.Join(j.Rewrite(slices.Values([][]byte{[]byte("a")})), j.Append([]byte("b"))); err != nil {
		t.Fatal(err)
	}
	r.add(message.Reading, "air")
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	if err := j.Append([]byte("c")); !errors.Is(err, errNotHeld) {
		t.Errorf("Append after Close: %v", err)
	}
	r = newRig(t, r.d, Options{})
	if got := entries(t, r.s.Journal("orders")); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("after a restart it holds %q", got)
	}
	if r.told() != "" {
		t.Error("the spool takes a journal for damage")
	}
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
}
