package daemon_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"fieldpost/daemon"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/message"
	"fieldpost/daemon/uplink"
)

// Two boards start from one card, one of them under another name by now. What
// the card had waiting comes with the name and the id of the run that took it,
// and what each of them takes since is told apart though runs and counts are the
// same. Each says its id once, when it is online.
func TestTwoBoardsFromOneCard(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	heard := s.Listen("test-ear")
	cfg := s.Config("", "")
	run := func(board, thing, client, endpoint string, dir string) (taken chan message.Record, linked chan uplink.Status, stop func() error) {
		c := *cfg
		c.Thing, c.Spool.Dir, c.Broker.Endpoint, c.Broker.ClientID = thing, filepath.Join(s.Dir, dir), endpoint, client
		taken, linked = make(chan message.Record, 4096), make(chan uplink.Status, 256)
		stop = s.Launch(daemon.Options{
			Config: &c, Fingerprint: board, Log: slog.New(slog.DiscardHandler),
			Taken: func(r message.Record) { taken <- r }, Linked: daemontest.ConnectionChanges(linked),
		})
		return taken, linked, stop
	}
	taken, _, stop := run("first", "east", "thing-1", "127.0.0.1:1", "card") // nobody is there
	first := daemontest.Await(t, "reading", taken, func(r message.Record) bool { return r.Kind == message.Reading })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(s.Dir, "copy"), os.DirFS(filepath.Join(s.Dir, "card"))); err != nil {
		t.Fatal(err)
	}
	ids := map[any]bool{}
	for i, b := range []struct{ board, thing, dir string }{{"first", "west", "card"}, {"second", "north", "copy"}} {
		_, _, stop = run(b.board, b.thing, fmt.Sprint("thing-", i), s.Addr, b.dir)
		var online, old, now map[string]any
		daemontest.Await(t, "what the card had, online, and a reading of now", heard, func(m map[string]any) bool {
			switch {
			case m["state"] == "online" && m["thing"] == b.thing:
				online = m
			case m["sensor"] != "air" || m["seq"] != 1.0:
			case m["run"] == float64(first.Run) && m["thing"] == "east" && m["spool"] == first.Source.Spool:
				old = m
			case m["run"] == float64(first.Run+1):
				now = m
			}
			return online != nil && old != nil && now != nil
		})
		if now["thing"] != b.thing || now["spool"] != online["spool"] || online["spool"] == nil || ids[now["spool"]] {
			t.Errorf("%s: online %v, reading %v", b.board, online, now)
		}
		if same := now["spool"] == first.Source.Spool; same != (b.board == "first") {
			t.Errorf("%s: spool %v, the card was %v", b.board, now["spool"], first.Source.Spool)
		}
		ids[now["spool"]] = true
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
}
