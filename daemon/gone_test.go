package daemon_test

import (
	"os"
	"testing"

	"fieldpost/daemon/message"
)

// Somebody removes the spool's directory under a daemon that has no link. Nothing
// that it took before or after is lost by its stop.
func TestASpoolRemovedUnderTheDaemon(t *testing.T) {
	s := newSite(t, nil)
	cfg := s.config("", "")
	away := *cfg
	away.Broker.Endpoint = "127.0.0.1:1" // nobody listens there
	r := s.start(&away)
	taken := func(n uint64) (last message.Record) {
		return until(t, "reading", r.taken, func(x message.Record) bool { return x.Kind == message.Reading && x.Seq >= n })
	}
	last := taken(20)
	if err := os.RemoveAll(cfg.Spool.Dir); err != nil {
		t.Fatal(err)
	}
	last = taken(last.Seq + 10)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r = s.start(cfg)
	for seq := range last.Seq {
		x := until(t, "reading of the run before", r.acked, func(x message.Record) bool { return x.Kind == message.Reading && x.Run == last.Run })
		if x.Seq != seq+1 || x.Source != last.Source {
			t.Fatalf("got %d of %v, want %d of %v", x.Seq, x.Source, seq+1, last.Source)
		}
	}
}
