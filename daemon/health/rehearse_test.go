//go:build rehearsal

package health

import (
	"os"
	"path/filepath"
	"testing"
)

// A rehearsal reaches the loop that it names and no other, and only while it
// is asked for.
func TestRehearse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rehearse")
	t.Setenv("FIELDPOST_REHEARSE", path)
	ask := func(what string) {
		if err := os.WriteFile(path, []byte(what), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var h Heartbeats
	link, timers := h.Register("link"), h.Register("output timers")
	panics := func(l *Heartbeat) (did bool) {
		defer func() { did = recover() != nil }()
		l.Beat()
		return false
	}
	if panics(link) {
		t.Error("panics without a file")
	}
	ask("panic output timers\n")
	if panics(link) || !panics(timers) {
		t.Error("want the output timers to panic, and the link not to")
	}
	ask("nonsense link\n")
	if panics(link) {
		t.Error("panics on a word that it does not know")
	}
}
