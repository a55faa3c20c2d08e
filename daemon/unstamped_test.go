package daemon_test

import (
	"strings"
	"testing"

	"fieldpost/daemon/config"
)

// accepting is the site's configuration with commands.unstamped: accept.
func (s *site) accepting() *config.Config {
	cfg := s.config("", "")
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
			s, _ := newMosquittoSite(t, lines...)
			heard := s.ear("test-ear")
			say := s.mouth("test-mouth")
			const bare = `{"output":"pump","action":"on"}`
			for _, cfg := range []*config.Config{s.config("", ""), s.accepting(), s.accepting()} {
				r := s.start(cfg).linkedUp(t)
				if err := r.stop(); err != nil {
					t.Fatal(err)
				}
				say(bare)
			}
			if n := s.ups(); n != 0 {
				t.Fatalf("the pump went on %d times while nobody was there", n)
			}
			r := s.start(s.accepting()).linkedUp(t)
			say(`{"id":"mark","output":"nothing","action":"on"}`)
			answered(t, heard, "mark")
			if n := s.ups(); n != 0 {
				t.Errorf("the pump went on %d times: orders were stored", n)
			}
			say(bare)
			until(t, "answer", heard, func(m map[string]any) bool { return m["kind"] == "answer" && m["id"] == nil && m["status"] == "done" })
			if n := s.ups(); n != 1 {
				t.Errorf("the pump went on %d times, want once", n)
			}
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Without that setting such orders are refused, and told how to be made.
func TestUnstampedIsRefused(t *testing.T) {
	s := newSite(t, nil)
	heard := s.ear("test-ear")
	r := s.start(s.config("", "")).linkedUp(t)
	s.mouth("test-mouth")(`{"output":"pump","action":"on"}`)
	a := until(t, "answer", heard, is("kind", "answer"))
	if hint, _ := a["hint"].(string); a["status"] != "refused" || a["reason"] != "unstamped" || !strings.Contains(hint, "commands.unstamped") {
		t.Errorf("answer %v", a)
	}
	if s.ups() != 0 {
		t.Error("the pump went on")
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
}
