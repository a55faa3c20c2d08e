package daemon_test

import (
	"strings"
	"testing"

	"fieldpost/daemon/config"
	"fieldpost/daemon/daemontest"
)

// acceptingUnstamped is the site's configuration with commands.unstamped: accept.
func acceptingUnstamped(s *daemontest.Site) *config.Config {
	cfg := s.Config("", "")
	cfg.Commands.Unstamped = "accept"
	return cfg
}

// With commands.unstamped: accept no order that was sent while the daemon was
// away acts later: not from a session of the time before that setting, and not
// where the broker stores messages of QoS 0 too. Nor does one that is retained.
// [CMD-7]
func TestNoUnstampedOrderIsStored(t *testing.T) {
	for what, lines := range map[string][]string{"as it comes": nil, "storing QoS 0": {"queue_qos0_messages true"}} {
		t.Run(what, func(t *testing.T) {
			s, _ := daemontest.NewMosquittoSite(t, lines...)
			heard := s.Listen("test-ear")
			say := s.Publisher("test-mouth")
			const bare = `{"output":"pump","action":"on"}`
			for _, cfg := range []*config.Config{s.Config("", ""), acceptingUnstamped(s), acceptingUnstamped(s)} {
				r := s.Start(cfg).AwaitLink(t)
				if err := r.Stop(); err != nil {
					t.Fatal(err)
				}
				say(bare)
			}
			if n := timesOn(s); n != 0 {
				t.Fatalf("the pump went on %d times while nobody was there", n)
			}
			r := s.Start(acceptingUnstamped(s)).AwaitLink(t)
			say(`{"id":"mark","output":"nothing","action":"on"}`)
			answered(t, heard, "mark")
			if n := timesOn(s); n != 0 {
				t.Errorf("the pump went on %d times: orders were stored", n)
			}
			say(bare)
			daemontest.Await(t, "answer", heard, func(m map[string]any) bool { return m["kind"] == "answer" && m["id"] == nil && m["status"] == "done" })
			if n := timesOn(s); n != 1 {
				t.Errorf("the pump went on %d times, want once", n)
			}
			if err := r.Stop(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Without that setting such orders are refused, and told how to be made.
func TestUnstampedIsRefused(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	heard := s.Listen("test-ear")
	r := s.Start(s.Config("", "")).AwaitLink(t)
	s.Publisher("test-mouth")(`{"output":"pump","action":"on"}`)
	a := daemontest.Await(t, "answer", heard, daemontest.Has("kind", "answer"))
	if hint, _ := a["hint"].(string); a["status"] != "refused" || a["reason"] != "unstamped" || !strings.Contains(hint, "commands.unstamped") {
		t.Errorf("answer %v", a)
	}
	if timesOn(s) != 0 {
		t.Error("the pump went on")
	}
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
}
