package interop

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"fieldpost/daemon/config"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/message"
	"fieldpost/daemon/uplink"
)

// unpacked checks readings that come in arrays: it has the next number of each sensor and
// run.
type unpacked struct {
	t       *testing.T
	next    map[string]float64
	arrays  int
	largest int // bytes of an array
}

// take checks a message if it is an array of readings: first transmissions are in order
// and complete. Repeated ones are ignored.
func (u *unpacked) take(m map[string]any) bool {
	u.t.Helper()
	text, is := m["unreadable"].(string)
	if !is {
		if m["seq"] != nil {
			u.t.Fatalf("a reading came by itself: %v", m)
		}
		return false
	}
	var readings []map[string]any
	if err := json.Unmarshal([]byte(text), &readings); err != nil || len(readings) == 0 {
		u.t.Fatalf("payload %.200s: %v", text, err)
	}
	u.arrays++
	u.largest = max(u.largest, len(text))
	for _, r := range readings {
		key := fmt.Sprint(r["sensor"], " in run ", r["run"])
		seq := r["seq"].(float64)
		if seq > u.next[key]+1 {
			u.t.Fatalf("%s: number %v came after %v", key, seq, u.next[key])
		}
		u.next[key] = max(u.next[key], seq)
	}
	return true
}

// The broker restarts, and is then killed and loses its sessions, while readings of three
// sensors are sent in arrays. An independent subscriber gets every number, in order.
func TestBatchesOverMosquitto(t *testing.T) {
	s, m := daemontest.NewMosquittoSite(t)
	s.Bus.AddLM75(0x49, 11).SetTemperature(19)
	heard := s.Listen("test-ear")
	cfg := s.Config("  - {name: soil, chip: lm75, bus: i2c-1, address: 0x49, every: 100ms}\n  - {name: door, chip: gpio, pin: GPIO17, pull: up}", "")
	cfg.Readings.Batch = config.Batch{Max: 8, Within: 500 * time.Millisecond}
	r := s.Start(cfg).AwaitLink(t)
	u := &unpacked{t: t, next: map[string]float64{}}
	for range 3 {
		daemontest.Await(t, "array", heard, u.take)
	}
	m.Stop()
	daemontest.Await(t, "loss of the link", r.Linked, func(st uplink.Status) bool { return !st.Connected })
	level := true
	var last message.Record
	for range 40 { // during the outage
		last = daemontest.Await(t, "reading", r.Taken, func(rec message.Record) bool { return rec.Kind == message.Reading })
		level = !level
		s.Board.Line("GPIO17").Drive(level)
	}
	m.Start()
	r.AwaitLink(t)
	key := fmt.Sprintf("%s in run %d", last.Sensor, last.Run)
	for u.next[key] < float64(last.Seq) {
		daemontest.Await(t, "array", heard, u.take)
	}
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	most := map[string]uint64{}
	for len(r.Taken) > 0 {
		if rec := <-r.Taken; rec.Seq > 0 {
			most[fmt.Sprintf("%s in run %d", rec.Sensor, rec.Run)] = rec.Seq
		}
	}
	daemontest.Await(t, "farewell", heard, func(m map[string]any) bool { u.take(m); return m["state"] == "offline" })
	for key, n := range most {
		if u.next[key] != float64(n) {
			t.Errorf("%s: %v arrived of %d", key, u.next[key], n)
		}
	}
	if len(u.next) != 3 {
		t.Errorf("arrived: %v, want three sensors", u.next)
	}
}

// A backlog of long readings is split into arrays well below a broker's limit, whatever
// readings.batch allows. The broker is killed meanwhile.
func TestLargeBatchesAreSplitOverMosquitto(t *testing.T) {
	s, m := daemontest.NewMosquittoSite(t)
	heard := s.Listen("test-ear")
	cfg := s.Config("", "")
	cfg.Readings.Batch = config.Batch{Max: 5000, Within: time.Second}
	const n = 3000
	s.FillSpool(cfg, n)
	r := s.Start(cfg).AwaitLink(t)
	u := &unpacked{t: t, next: map[string]float64{}}
	daemontest.Await(t, "array", heard, u.take)
	m.Stop()
	daemontest.Await(t, "loss of the link", r.Linked, func(st uplink.Status) bool { return !st.Connected })
	m.Start()
	for u.next["old in run 1"] < n {
		daemontest.Await(t, "array", heard, u.take)
	}
	if u.largest > 96<<10 || u.largest < 95<<10 {
		t.Errorf("the largest array has %d bytes", u.largest)
	}
}
