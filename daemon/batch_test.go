package daemon_test

import (
	"encoding/json"
	"testing"
	"time"

	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/config"
	"fieldpost/daemon/daemontest"
)

// With batches, readings and edges come in arrays, their numbers in order, and
// all else as before, although all of it is on one topic.
func TestReadingsComeInBatches(t *testing.T) {
	s := daemontest.NewSite(t, awsiot.Tutorial())
	heard := s.Listen("test-ear")
	cfg := s.Config("  - {name: door, chip: gpio, pin: GPIO17, pull: up, active_low: true}", "")
	cfg.Readings.Batch = config.Batch{Max: 3, Within: time.Minute}
	r := s.Start(cfg)

	next, edge := 1.0, false
	array := func(m map[string]any) bool {
		text, is := m["unreadable"].(string)
		if !is {
			if m["seq"] != nil {
				t.Fatalf("a reading came by itself: %v", m)
			}
			return false
		}
		var readings []map[string]any
		if err := json.Unmarshal([]byte(text), &readings); err != nil || len(readings) > 3 {
			t.Fatalf("payload %s: %v", text, err)
		}
		for _, got := range readings {
			if got["sensor"] == "air" {
				if got["seq"] != next {
					t.Fatalf("number %v came, want %v", got["seq"], next)
				}
				next++
			}
			edge = edge || got["sensor"] == "door" && got["active"] == true
		}
		return len(readings) == 3
	}
	for range 3 {
		daemontest.Await(t, "full batch", heard, array)
	}
	s.Board.Line("GPIO17").Drive(false)
	daemontest.Await(t, "edge", heard, func(m map[string]any) bool { array(m); return edge })

	s.Publisher("test-mouth")(daemontest.Order("c-1", "on", time.Minute))
	a := daemontest.Await(t, "answer", heard, func(m map[string]any) bool { array(m); return m["kind"] == "answer" })
	if a["id"] != "c-1" || a["status"] != "done" {
		t.Errorf("answer %v", a)
	}
	if err := r.Stop(); err != nil { // sends what waits for a full batch
		t.Fatal(err)
	}
	last := 0.0
	for len(r.Taken) > 0 {
		if rec := <-r.Taken; rec.Sensor == "air" && rec.Seq > 0 {
			last = float64(rec.Seq)
		}
	}
	daemontest.Await(t, "farewell", heard, func(m map[string]any) bool { array(m); return m["state"] == "offline" })
	if next != last+1 {
		t.Errorf("%v readings came, %v were taken", next-1, last)
	}
}
