package footprint

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"testing"
	"time"

	"fieldpost/daemon"
	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/message"
	"fieldpost/daemon/uplink"
)

// report reports what half and what all but one in a hundred of the latencies
// do not exceed. The time of an op says nothing: it is the schedule's.
func report(b *testing.B, latencies []time.Duration) {
	b.Helper()
	if len(latencies) == 0 {
		b.Fatal("nothing was measured")
	}
	slices.Sort(latencies)
	for _, q := range []struct {
		percent int
		unit    string
	}{{50, "p50-ms"}, {99, "p99-ms"}} {
		i := (len(latencies)*q.percent+99)/100 - 1 // the nearest rank
		b.ReportMetric(latencies[i].Seconds()*1e3, q.unit)
	}
	b.ReportMetric(0, "ns/op")
}

// From a reading being taken to its PUBACK having been dealt with, over mutual
// TLS on loopback: with the spool as it is by default, memory first, and with
// each reading on disk before it is sent. An op is one reading.
func BenchmarkReadingToPUBACK(b *testing.B) {
	for _, at := range []struct {
		name string
		risk time.Duration
	}{{"memory first", 5 * time.Second}, {"disk first", 0}} {
		b.Run(at.name, func(b *testing.B) {
			s := daemontest.NewSite(b, awsiot.Tutorial())
			cfg := s.Config("  - {name: fast, chip: lm75, bus: i2c-1, address: 0x48, every: 10ms}", "")
			cfg.Spool.AtRisk = at.risk
			s.Bus.AddLM75(0x48, 11)
			began := make(chan time.Time, 4096) // one sensor's readings are taken and acknowledged in one order
			took := make(chan time.Duration, 4096)
			fast := func(r message.Record) bool { return r.Kind == message.Reading && r.Sensor == "fast" }
			s.Launch(daemon.Options{
				Config: cfg, Log: slog.New(slog.DiscardHandler),
				Taken: func(r message.Record) {
					if fast(r) {
						began <- time.Now()
					}
				},
				Acked: func(r message.Record) {
					if fast(r) {
						took <- time.Since(<-began)
					}
				},
			})
			for range 10 { // the first ones waited for the link
				daemontest.Receive(b, "acknowledged reading", took)
			}
			var latencies []time.Duration
			for b.Loop() {
				latencies = append(latencies, daemontest.Receive(b, "acknowledged reading", took))
			}
			report(b, latencies)
		})
	}
}

// From an order being handed to somebody else's client to the change of the
// line, both over mutual TLS on loopback, with the ledger on disk and, where
// there is a file system in memory, with one for which a sync does nothing. An
// op is one order and its answer.
func BenchmarkOrderToLine(b *testing.B) {
	b.Run("ledger on disk", func(b *testing.B) { orderToLine(b, b.TempDir()) })
	dir, err := os.MkdirTemp("/dev/shm", "fieldpost-bench-")
	if err != nil {
		return
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	b.Run("ledger in memory", func(b *testing.B) { orderToLine(b, dir) })
}

func orderToLine(b *testing.B, spool string) {
	s := daemontest.NewSite(b, awsiot.Tutorial())
	cfg := s.Config("", "")
	cfg.Spool.Dir = spool
	heard, say := s.Listen("test-ear"), s.Publisher("test-mouth")
	linked := make(chan uplink.Status, 256)
	s.Launch(daemon.Options{Config: cfg, Log: slog.New(slog.DiscardHandler), Linked: daemontest.ConnectionChanges(linked)})
	daemontest.Await(b, "link", linked, func(st uplink.Status) bool { return st.Connected })
	say("no order, but this client is linked now")
	pump, now := s.Board.Line("GPIO27"), s.Clock()
	before := len(pump.History())

	var sent []time.Duration
	for b.Loop() {
		id := fmt.Sprintf("c-%d", len(sent))
		payload := daemontest.Order(id, "toggle", time.Minute)
		sent = append(sent, now.Now().Mono)
		say(payload)
		a := daemontest.Await(b, "answer", heard, func(m map[string]any) bool { return m["kind"] == "answer" && m["id"] == id })
		if a["status"] != "done" {
			b.Fatalf("answer %v", a)
		}
	}
	changed := pump.History()[before:]
	if len(changed) != len(sent) {
		b.Fatalf("the line changed %d times after %d orders", len(changed), len(sent))
	}
	latencies := make([]time.Duration, len(sent))
	for i, c := range changed {
		latencies[i] = c.At - sent[i]
	}
	report(b, latencies)
}
