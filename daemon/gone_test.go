package daemon_test

import (
	"os"
	"testing"

	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/message"
)

// Somebody removes the spool's directory under a daemon that has no link. Nothing
// that it took before or after is lost by its stop.
func TestASpoolRemovedUnderTheDaemon(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	cfg := s.Config("", "")
	away := *cfg
	away.Broker.Endpoint = "127.0.0.1:1" // nobody listens there
	r := s.Start(&away)
	taken := func(n uint64) (last message.Record) {
		return daemontest.Await(t, "reading", r.Taken, func(x message.Record) bool { return x.Kind == message.Reading && x.Seq >= n })
	}
	last := taken(20)
	if err := os.RemoveAll(cfg.Spool.Dir); err != nil {
		t.Fatal(err)
	}
	last = taken(last.Seq + 10)
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	r = s.Start(cfg)
	for seq := range last.Seq {
		x := daemontest.Await(t, "reading of the run before", r.Acked, func(x message.Record) bool { return x.Kind == message.Reading && x.Run == last.Run })
		if x.Seq != seq+1 || x.Source != last.Source {
			t.Fatalf("got %d of %v, want %d of %v", x.Seq, x.Source, seq+1, last.Source)
		}
	}
}
