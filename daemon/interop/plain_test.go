package interop

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"fieldpost/daemon/config"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/message"
	"fieldpost/daemon/uplink"
)

// hearAll subscribes to home/# with a client of its own and returns the messages.
func hearAll(s *daemontest.Site) <-chan uplink.Message {
	up := make(chan uplink.Status, 256)
	l, err := uplink.New(uplink.Config{
		Endpoint: s.Addr, ClientID: "test-ear", CA: s.Files.CA, Certificate: s.Files.Certificate, Key: s.Files.Key,
		Subscriptions: []uplink.Subscription{{Filter: "home/#", QoS: 1}}, Outbox: uplink.NewQueue(), Observe: daemontest.ConnectionChanges(up),
	})
	if err != nil {
		s.T.Fatal(err)
	}
	daemontest.Background(s.T, l.Run)
	heard := make(chan uplink.Message, 4096)
	daemontest.Background(s.T, func(ctx context.Context) error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case m := <-l.Messages():
				heard <- m
				m.Ack()
			}
		}
	})
	daemontest.Await(s.T, "connection", up, func(st uplink.Status) bool { return st.Connected })
	return heard
}

// With {quantity} in the topic a subscriber of mosquitto's gets each value as plain text
// under its own topic, also those of the outage, and everything else as JSON.
func TestPlainValuesOverMosquitto(t *testing.T) {
	s, m := daemontest.NewMosquittoSite(t)
	heard := hearAll(s)
	file := filepath.Join(s.Dir, "fieldpost.yaml")
	text := fmt.Sprintf("thing: barn\nbroker: {endpoint: %q}\nreadings: {topic: 'home/{thing}/{sensor}/{quantity}'}\nspool: {dir: spool}\n"+
		"sensors:\n  - {name: air, chip: bme280, bus: i2c-1, address: 0x76, every: 100ms}\n  - {name: door, chip: gpio, pin: GPIO17, pull: up}\n", s.Addr)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	r := s.Start(cfg).AwaitLink(t)
	await := func(topic string, ok func(payload string) bool) {
		t.Helper()
		daemontest.Await(t, topic, heard, func(m uplink.Message) bool { return m.Topic == topic && ok(string(m.Payload)) })
	}
	warm := func(want float64) func(string) bool {
		return func(payload string) bool {
			v, err := strconv.ParseFloat(payload, 64)
			if err != nil {
				t.Errorf("payload %q is no number", payload)
			}
			return v > want-0.1 && v < want+0.1
		}
	}
	is := func(want string) func(string) bool { return func(payload string) bool { return payload == want } }
	await("home/barn/fieldpost/status", func(payload string) bool { return payload[0] == '{' })
	await("home/barn/air/temperature", warm(21.5))
	s.Board.Line("GPIO17").Drive(false)
	await("home/barn/door/active", is("false"))
	await("home/barn/door/changes", is("1"))
	m.Stop()
	daemontest.Await(t, "loss of the link", r.Linked, func(st uplink.Status) bool { return !st.Connected })
	s.Air.SetTemperature(30)
	daemontest.Await(t, "reading in the outage", r.Taken, func(rec message.Record) bool {
		return rec.Kind == message.Reading && rec.Sensor == "air" && warm(30)(fmt.Sprint(rec.Fields[0].Value))
	})
	s.Air.SetTemperature(10)
	m.Start()
	await("home/barn/air/temperature", warm(30))
	await("home/barn/air/temperature", warm(10))
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
}
