package daemon_test

import (
	"fmt"
	"testing"
	"time"

	"fieldpost/daemon/api"
	"fieldpost/daemon/daemontest"
)

// A controller that speaks MQTT keeps an output alive: each order is done, only
// the first changes the output, and when no more come it is made safe, which is
// told as an event and counted in the status. The broker's second copy of an
// order is answered as the first was and keeps nothing alive.
func TestRefreshOverMQTT(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	cfg := s.Config("", "  - {name: fan, pin: GPIO5, refresh: 30s}")
	cfg.Outputs[1].Refresh = 2 * time.Second // less than a configuration may ask for
	heard, say := s.Listen("test-ear"), s.Publisher("test-mouth")
	r, socket := s.StartWithSocket(cfg)
	r.AwaitLink(t)
	order := func(id string) string {
		return fmt.Sprintf(`{"id":%q,"output":"fan","action":"on","expires":%q}`, id, time.Now().Add(time.Minute).Format(time.RFC3339))
	}
	var changed []string
	await := func(what string, ok func(m map[string]any) bool) map[string]any {
		return daemontest.Await(t, what, heard, func(m map[string]any) bool {
			if m["kind"] == "event" && m["output"] == "fan" && m["cause"] != "initial" {
				changed = append(changed, fmt.Sprint(m["state"], " ", m["cause"], " ", m["id"]))
			}
			return ok(m)
		})
	}
	for _, id := range []string{"c-1", "c-2", "c-3"} {
		say(order(id))
		if a := await("answer "+id, func(m map[string]any) bool { return m["kind"] == "answer" && m["id"] == id }); a["status"] != "done" || a["state"] != "on" {
			t.Errorf("answer %v", a)
		}
	}
	await("end", func(m map[string]any) bool { return m["cause"] == "refresh_lost" })
	if len(changed) != 2 || changed[0] != "on mqtt c-1" || changed[1] != "off refresh_lost <nil>" {
		t.Errorf("changes %q", changed)
	}
	say(order("c-3"))
	await("answer again", func(m map[string]any) bool { return m["kind"] == "answer" && m["id"] == "c-3" })
	status := daemontest.AwaitStatus(t, socket, "output", func(r api.Status) bool { return len(r.Outputs) == 2 })
	if fan := status.Outputs[1]; fan.State != "off" || fan.Cause != "refresh_lost" || fan.RefreshLost != 1 {
		t.Errorf("fan: %+v", fan)
	}
}
