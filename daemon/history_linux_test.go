package daemon_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon/api"
	"fieldpost/daemon/client"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/local"
)

// askHistory asks a daemon for past readings.
func askHistory(t *testing.T, socket string, q api.HistoryQuery) (h api.History) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), daemontest.Patience)
	defer cancel()
	if err := local.Do(ctx, socket, api.GetHistory, q, &h); err != nil {
		t.Fatal(err)
	}
	return h
}

// The history is there after a restart, on disk, and goes on; a reload keeps that of sensors
// that stay and of those that go.
func TestHistoryOverRestartAndReload(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	s.Bus.AddTMP102(0x48)
	cfg := s.Config(soil, "")
	r, socket := s.StartWithSocket(cfg)
	both := func(r api.Status) bool { return len(r.Sensors) == 2 && r.Sensors[0].Seq > 1 && r.Sensors[1].Seq > 0 }
	daemontest.AwaitStatus(t, socket, "readings", both)
	first := askHistory(t, socket, api.HistoryQuery{Sensor: "air"})
	if first.Keep != "disk" || first.Unsaved != "" || !first.ClockSynced || len(first.Series) != 3 {
		t.Fatalf("got %+v", first)
	}
	air := first.Series[0]
	if air.Quantity != "temperature" || air.Unit != "Cel" || air.Symbol != "°C" || air.Step != 10 || len(air.Mean) == 0 || air.Mean[0] != 21.5 || air.First.IsZero() {
		t.Fatalf("got %+v", air)
	}
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}

	s.Air.SetTemperature(22.5)
	before := time.Now()
	r, socket = s.StartWithSocket(cfg)
	daemontest.AwaitStatus(t, socket, "readings", both)
	after := askHistory(t, socket, api.HistoryQuery{Sensor: "air", Quantity: "temperature", Since: "1d"}).Series[0]
	if n := len(after.Mean); n == 0 || after.Min[0] != 21.5 || after.Max[n-1] != 22.5 || !after.First.Before(before) {
		t.Errorf("after the restart: %+v", after)
	}

	s.Config("", "") // without soil
	if _, err := client.AskReload(t.Context(), socket); err != nil {
		t.Fatal(err)
	}
	names := map[string]int{}
	for _, l := range askHistory(t, socket, api.HistoryQuery{}).Series {
		names[l.Sensor]++
		if l.Times != nil || l.First.IsZero() || l.Last.Before(l.First) {
			t.Errorf("in the list: %+v", l)
		}
	}
	if names["air"] != 3 || names["soil"] != 1 {
		t.Errorf("after the reload: %v", names)
	}
	text, err := os.ReadFile(cfg.File)
	if err != nil {
		t.Fatal(err)
	}
	rewrite(t, s, string(text)+"history: {keep: none}\n")
	if _, err := client.AskReload(t.Context(), socket); err != nil {
		t.Fatal(err)
	}
	if h := askHistory(t, socket, api.HistoryQuery{}); h.Keep != "none" || len(h.Series) != 0 {
		t.Errorf("switched off: %+v", h)
	}
	err = local.Do(t.Context(), socket, api.GetHistory, api.HistoryQuery{Sensor: "air"}, new(api.History))
	if err == nil || !strings.Contains(err.Error(), "keeps no history") {
		t.Errorf("switched off: %v", err)
	}
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
}
