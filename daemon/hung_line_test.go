package daemon_test

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"fieldpost/daemon"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/uplink"
)

// More orders for a line that hangs than the broker sends unacknowledged keep
// no order for another output away. When the line is back only the order that
// was under way has moved it. [CMD-15] [CMD-16]
func TestHungLineKeepsNoOtherOrdersAway(t *testing.T) {
	s, _ := daemontest.NewMosquittoSite(t)
	heard := s.Listen("test-ear")
	cfg := s.Config("", "  - {name: fan, pin: GPIO5}")
	linked := make(chan uplink.Status, 256)
	free := make(chan struct{})
	s.Board.BeforeSet(func(line string, active bool) {
		if line == "GPIO27" && active {
			<-free
		}
	})
	stop := s.Launch(daemon.Options{
		Config: cfg, Log: slog.New(slog.DiscardHandler), Linked: daemontest.ConnectionChanges(linked),
	})
	daemontest.Await(t, "link", linked, func(st uplink.Status) bool { return st.Connected })
	say := s.Publisher("test-mouth")
	for i := range 40 {
		say(daemontest.Order(fmt.Sprintf("p-%d", i), "on", 10*time.Second))
	}
	say(fmt.Sprintf(`{"id":"f","output":"fan","action":"on","expires":%q}`, time.Now().Add(time.Minute).UTC().Format(time.RFC3339)))
	reasons := map[any]any{}
	for reasons["f"] == nil {
		a := daemontest.Await(t, "answer", heard, daemontest.Has("kind", "answer"))
		reasons[a["id"]] = a["status"]
		if a["reason"] != nil {
			reasons[a["id"]] = a["reason"]
		}
	}
	if reasons["f"] != "done" || reasons["p-0"] != nil {
		t.Errorf("answers %v", reasons)
	}
	for reasons["p-1"] == nil {
		a := daemontest.Await(t, "answer", heard, daemontest.Has("kind", "answer"))
		reasons[a["id"]] = a["reason"]
	}
	if reasons["p-1"] != "expired" {
		t.Errorf("an order that waited is answered %v", reasons["p-1"])
	}
	close(free)
	if a := answered(t, heard, "p-0"); a["status"] != "done" {
		t.Errorf("answer %v", a)
	}
	if n := timesOn(s); n != 1 {
		t.Errorf("the pump went on %d times", n)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}
