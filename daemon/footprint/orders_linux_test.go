package footprint

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"fieldpost/daemon"
	"fieldpost/daemon/client"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/uplink"
)

// From an order to its answer as `fieldpost send --via mqtt` sees it, on a mosquitto as
// Debian ships it and on one that sends small packets at once. An op is one order.
func BenchmarkOrderToAnswer(b *testing.B) {
	b.Run("stock mosquitto", func(b *testing.B) { orderToAnswer(b) })
	b.Run("set_tcp_nodelay", func(b *testing.B) { orderToAnswer(b, "set_tcp_nodelay true") })
}

func orderToAnswer(b *testing.B, lines ...string) {
	s, _ := daemontest.NewMosquittoSite(b, lines...)
	cfg := s.Config("", "")
	linked := make(chan uplink.Status, 256)
	s.Launch(daemon.Options{Config: cfg, Log: slog.New(slog.DiscardHandler), Linked: daemontest.ConnectionChanges(linked)})
	daemontest.Await(b, "link", linked, func(st uplink.Status) bool { return st.Connected })
	o, err := client.NewOrderer(cfg, "test-orderer", slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(b.Context(), 2*time.Minute)
	ended := make(chan error, 1)
	go func() { ended <- o.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	})
	if err := o.Connected(ctx); err != nil {
		b.Fatal(err)
	}
	var latencies []time.Duration
	for b.Loop() {
		began := time.Now()
		a, err := o.Send(ctx, client.OrderRequest{Output: "pump", Action: "toggle", Life: time.Minute})
		if err != nil || a.Status != "done" {
			b.Fatalf("answer %+v, %v", a, err)
		}
		latencies = append(latencies, time.Since(began))
	}
	report(b, latencies)
}

// Fifty orders a second for a minute, each energising and so with an intent and
// a result in the ledger: what they cost in memory and on disk. An op is all
// 3000 of them.
func BenchmarkFiftyOrdersASecond(b *testing.B) {
	const orders = 3000
	for b.Loop() {
		s := daemontest.NewSite(b, nil)
		heard, say := s.Listen("test-ear"), s.Publisher("test-mouth")
		p := startChild(b, s, childPlan{every: 24 * time.Hour, oneTopic: true})
		daemontest.Await(b, "online", heard, daemontest.Has("state", "online"))
		ctx, cancel := context.WithTimeout(b.Context(), 2*time.Minute)
		done := make(chan int, 1)
		go func() { done <- countDone(ctx, b, heard, orders) }()
		<-time.After(settle)
		cpu, written, before := p.cpu(), p.number("io", "write_bytes"), p.megabytes("RssAnon")
		start := time.Now()
		tick := time.NewTicker(time.Second / 50)
		for i := range orders {
			<-tick.C
			say(daemontest.Order(fmt.Sprintf("c-%d", i), "toggle", time.Minute))
		}
		tick.Stop()
		sent := time.Since(start).Seconds()
		n := daemontest.Receive(b, "answers", done)
		cancel()
		if n != orders {
			b.Errorf("%d of %d orders are answered done", n, orders)
		}
		b.ReportMetric(orders/sent, "orders/s")
		b.ReportMetric(time.Since(start).Seconds()-sent, "last-answer-s")
		b.ReportMetric((p.cpu()-cpu).Seconds()*1e3/orders, "cpu-ms/order")
		b.ReportMetric(float64(p.number("io", "write_bytes")-written)/orders, "disk-B/order")
		b.ReportMetric(before, "RSS-anon-before-MB")
		b.ReportMetric(p.megabytes("RssAnon"), "RSS-anon-after-MB")
	}
	b.ReportMetric(0, "ns/op")
}

// countDone counts the answers that say done, until there are so many answers;
// it tells of others.
func countDone(ctx context.Context, b *testing.B, heard <-chan map[string]any, want int) (n int) {
	for answers := 0; answers < want; {
		select {
		case <-ctx.Done():
			return n
		case m := <-heard:
			switch {
			case m["kind"] != "answer":
				continue
			case m["status"] == "done":
				n++
			default:
				b.Logf("answer: %v", m)
			}
			answers++
		}
	}
	return n
}
