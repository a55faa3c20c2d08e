package interop

import (
	"testing"
	"time"

	"fieldpost/daemon/api"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/message"
	"fieldpost/daemon/uplink"
)

// The daemon's main task with mosquitto.
func TestDaemonOverMosquitto(t *testing.T) {
	s, _ := daemontest.NewMosquittoSite(t)
	heard := s.Listen("test-ear")
	r := s.Start(s.Config("", "")).AwaitLink(t)
	s.Air.SetTemperature(30.25)
	daemontest.Await(t, "the chip's temperature", heard, daemontest.Has("temperature", 30.25))
	say := s.Publisher("test-mouth")
	say(daemontest.Order("c-1", "on", time.Minute))
	daemontest.Await(t, "answer", heard, func(m map[string]any) bool { return m["id"] == "c-1" && m["status"] == "done" })
	if high, driven := s.Board.Line("GPIO27").Level(); high || !driven {
		t.Errorf("line is high %v, driven %v; want it driven low", high, driven)
	}
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	daemontest.Await(t, "farewell", heard, daemontest.Has("state", "offline"))
}

// The broker restarts while readings continue. An independent subscriber gets every
// number, and first transmissions in order.
func TestBrokerRestartLosesNoReading(t *testing.T) {
	s, m := daemontest.NewMosquittoSite(t)
	heard := s.Listen("test-ear")
	r := s.Start(s.Config("", "")).AwaitLink(t)
	daemontest.Await(t, "reading", heard, daemontest.Has("sensor", "air"))
	m.Stop()
	daemontest.Await(t, "loss of the link", r.Linked, func(st uplink.Status) bool { return !st.Connected })
	for len(r.Taken) > 0 {
		<-r.Taken
	}
	var last message.Record
	for range 5 {
		last = daemontest.Await(t, "reading in the outage", r.Taken, func(rec message.Record) bool { return rec.Kind == message.Reading })
	}
	m.Start()

	next := 2.0 // 1 has come already
	for next <= float64(last.Seq) {
		got := daemontest.Await(t, "reading", heard, func(m map[string]any) bool { return m["sensor"] == "air" && m["kind"] == nil })["seq"].(float64)
		if got > next {
			t.Fatalf("seq %v came, %v is missing", got, next)
		}
		if got == next {
			next++
		}
	}
}

// With separate topics for readings and orders, the daemon subscribes to its readings
// until it has received one, and takes none for an order.
func TestDaemonListensForItself(t *testing.T) {
	s, m := daemontest.NewMosquittoSite(t)
	cfg := s.Config("", "")
	cfg.Broker.Verify, cfg.Readings.Topic, cfg.Commands.Topic = "subscribe", "field/{thing}/readings", "field/{thing}/orders"
	r, socket := s.StartWithSocket(cfg)
	r.AwaitLink(t)
	if !m.AwaitLog("Received UNSUBSCRIBE from thing-greenhouse") {
		t.Fatal("it has not heard itself")
	}
	daemontest.Await(t, "reading", r.Acked, func(rec message.Record) bool { return rec.Kind == message.Reading && rec.Seq > 3 })
	daemontest.AwaitStatus(t, socket, "good state", func(r api.Status) bool {
		return r.Link.Connected && len(r.Faults) == 0 && r.Orders.Elsewhere == 0 && r.Orders.Passed == 0
	})
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	// A session may still have that subscription if a connection ended too soon.
	cfg.Broker.Verify = "none"
	s.Start(cfg).AwaitLink(t)
	if !m.AwaitLogTimes("Received UNSUBSCRIBE from thing-greenhouse", 2) {
		t.Error("what is not listened for any more is not given up")
	}
}
