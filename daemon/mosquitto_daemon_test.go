package daemon_test

import (
	"testing"
	"time"

	"fieldpost/daemon/api"
	"fieldpost/daemon/broker"
	"fieldpost/daemon/message"
	"fieldpost/daemon/uplink"
)

// newMosquittoSite makes a site whose broker is Debian's mosquitto; lines are
// added to its configuration.
func newMosquittoSite(t *testing.T, lines ...string) (*site, *mosquitto) {
	t.Helper()
	m := startMosquitto(t, lines...)
	s := emptySite(t, m.dir) // its certs are where the configuration looks
	s.addr, s.files = m.Addr, broker.Files{CA: m.CA, Certificate: m.Cert, Key: m.Key}
	return s, m
}

// The main job against a broker that we did not write.
func TestDaemonOverMosquitto(t *testing.T) {
	s, _ := newMosquittoSite(t)
	heard := s.ear("test-ear")
	r := s.start(s.config("", "")).linkedUp(t)
	s.air.SetTemperature(30.25)
	until(t, "the chip's temperature", heard, is("temperature", 30.25))
	say := s.mouth("test-mouth")
	say(order("c-1", "on", time.Minute))
	until(t, "answer", heard, func(m map[string]any) bool { return m["id"] == "c-1" && m["status"] == "done" })
	if high, driven := s.board.Line("GPIO27").Level(); high || !driven {
		t.Errorf("line is high %v, driven %v; want it driven low", high, driven)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	until(t, "farewell", heard, is("state", "offline"))
}

// The broker restarts while readings go on: an independent subscriber gets
// every number, and new ones first in order.
func TestBrokerRestartLosesNoReading(t *testing.T) {
	s, m := newMosquittoSite(t)
	heard := s.ear("test-ear")
	r := s.start(s.config("", "")).linkedUp(t)
	until(t, "reading", heard, is("sensor", "air"))
	m.Stop()
	until(t, "loss of the link", r.linked, func(st uplink.Status) bool { return !st.Connected })
	for len(r.taken) > 0 {
		<-r.taken
	}
	var last message.Record
	for range 5 {
		last = until(t, "reading in the outage", r.taken, func(rec message.Record) bool { return rec.Kind == message.Reading })
	}
	m.Start()

	next := 2.0 // 1 was heard
	for next <= float64(last.Seq) {
		got := until(t, "reading", heard, func(m map[string]any) bool { return m["sensor"] == "air" && m["kind"] == nil })["seq"].(float64)
		if got > next {
			t.Fatalf("seq %v came, %v is missing", got, next)
		}
		if got == next {
			next++
		}
	}
}

// Readings and orders on topics of their own: the daemon subscribes to its readings
// until it has heard itself, and takes nothing of that for an order.
func TestDaemonListensForItself(t *testing.T) {
	s, m := newMosquittoSite(t)
	cfg := s.config("", "")
	cfg.Broker.Verify, cfg.Readings.Topic, cfg.Commands.Topic = "subscribe", "field/{thing}/readings", "field/{thing}/orders"
	r, socket := s.withSocket(cfg)
	r.linkedUp(t)
	if !m.says("Received UNSUBSCRIBE from thing-greenhouse") {
		t.Fatal("it has not heard itself")
	}
	until(t, "reading", r.acked, func(rec message.Record) bool { return rec.Kind == message.Reading && rec.Seq > 3 })
	told(t, socket, "good state", func(r api.Status) bool {
		return r.Link.Connected && len(r.Faults) == 0 && r.Orders.Elsewhere == 0 && r.Orders.Passed == 0
	})
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	// A session may still hold that subscription, where a connection ended too soon.
	cfg.Broker.Verify = "none"
	s.start(cfg).linkedUp(t)
	if !m.repeats("Received UNSUBSCRIBE from thing-greenhouse", 2) {
		t.Error("what is not listened for any more is not given up")
	}
}
