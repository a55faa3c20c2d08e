package daemon_test

import (
	"fmt"
	"testing"
	"time"

	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/message"
	"fieldpost/daemon/uplink"
)

// Somebody sends malformed orders as fast as the broker takes them. What goes
// into the spool for them is bounded, so that readings go on; an order to switch
// off, sent behind them, is done and answered, and in the end all are told.
// [CMD-19]
func TestFloodOfMalformedOrders(t *testing.T) {
	s := daemontest.NewSite(t, awsiot.Tutorial())
	r := s.Start(s.Config("", "")).AwaitLink(t)
	heard := s.Listen("test-ear")
	began := time.Now()
	const n = 2000
	q := uplink.NewQueue()
	publishFrom(s, "test-flood", q)
	var last <-chan error
	for i := range n {
		last = q.Publish("test/topic", fmt.Appendf(nil, `{"id":"m-%d","action":"on","outptu":"pump"}`, i))
	}
	if err := <-last; err != nil {
		t.Fatal(err)
	}
	last = q.Publish("test/topic", []byte(daemontest.Order("off", "off", time.Minute)))
	if err := <-last; err != nil {
		t.Fatal(err)
	}
	malformed := 0
	daemontest.Await(t, "answer to the order behind them", heard, func(m map[string]any) bool {
		if m["reason"] == "malformed" {
			malformed++
		}
		return m["kind"] == "answer" && m["id"] == "off" && m["status"] == "done"
	})
	daemontest.Await(t, "reading after it", heard, func(m map[string]any) bool { return m["sensor"] == "air" && m["kind"] == nil })
	most := 33 + int(time.Since(began)/time.Second)
	if malformed > most {
		t.Errorf("%d answers to malformed orders, want at most %d", malformed, most)
	}
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	said, told := 0, 0
	for len(r.Taken) > 0 {
		rec := <-r.Taken
		if rec.Kind != message.Answer {
			continue
		}
		for _, f := range rec.Fields {
			switch {
			case f.Name == "reason" && f.Value == "malformed":
				said++
			case f.Name == "count":
				told += int(f.Value.(int64))
			}
		}
	}
	if said+told != n {
		t.Errorf("%d answered and %d counted, want together %d", said, told, n)
	}
}

// publishFrom is a client that publishes what is in a queue.
func publishFrom(s *daemontest.Site, id string, q *uplink.Queue) {
	s.T.Helper()
	l, err := uplink.New(uplink.Config{
		Endpoint: s.Addr, ClientID: id, CA: s.Files.CA, Certificate: s.Files.Certificate, Key: s.Files.Key, Outbox: q,
	})
	if err != nil {
		s.T.Fatal(err)
	}
	daemontest.Background(s.T, l.Run)
}
