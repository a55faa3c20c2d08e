package daemon_test

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fieldpost/daemon"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/message"
	"fieldpost/daemon/uplink"
)

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// take returns what was written since the last call.
func (b *lockedBuffer) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.text.Reset()
	return b.text.String()
}

// steady leaves out the faults that a busy machine causes: a sensor that was read too late.
func steady(log string) string {
	lines := slices.DeleteFunc(strings.SplitAfter(log, "\n"), func(line string) bool {
		return strings.Contains(line, "code=") && !strings.Contains(line, "sensor=ghost")
	})
	return strings.Join(lines, "")
}

// A day in steady state writes less than 20 KB to the journal: nothing is logged for a
// reading, also of a chip that does not answer, and little for an order. What is logged for
// a tenth of the readings that a sensor with the default period takes in a day is counted;
// deploy/vm looks at the journal while time passes.
func TestSteadyStateIsNotLogged(t *testing.T) {
	const (
		dayKB    = 20
		readings = 24 * 60 * 60 / 10 / 10 // a tenth of a day, each 10 s
	)
	s := daemontest.NewSite(t, nil)
	cfg := s.Config(`  - {name: door, chip: gpio, pin: GPIO17, every: 10ms}
  - {name: window, chip: gpio, pin: GPIO22, every: 10ms}
  - {name: gate, chip: gpio, pin: GPIO23, every: 10ms}
  - {name: ghost, chip: tmp102, bus: i2c-1, address: 0x49, every: 100ms}`, "")
	log := &lockedBuffer{}
	acked, linked := make(chan message.Record, 4096), make(chan uplink.Status, 256)
	stop := s.Launch(daemon.Options{
		Config: cfg, Log: slog.New(slog.NewTextHandler(log, nil)), Linked: daemontest.ConnectionChanges(linked),
		Acked: func(r message.Record) { acked <- r },
	})
	daemontest.Await(t, "connection", linked, func(s uplink.Status) bool { return s.Connected })
	answers, send := s.Listen("controller"), s.Publisher("orderer")
	daemontest.Await(t, "fault of the chip that is not there", answers, daemontest.Has("sensor", "ghost"))
	await := func(n int) {
		for range n {
			daemontest.Await(t, "reading", acked, func(r message.Record) bool { return r.Kind == message.Reading })
		}
	}
	await(8) // each has been read
	_ = log.take()

	await(readings)
	quiet := steady(log.take())
	if bytes := len(quiet); bytes*10 >= dayKB<<10 {
		t.Errorf("%d bytes for %d readings:\n%.2000s", bytes, readings, quiet)
	}
	for _, action := range []string{"on", "off"} {
		send(daemontest.Order("day-"+action, action, time.Minute))
		daemontest.Await(t, "answer", answers, func(m map[string]any) bool { return m["kind"] == "answer" && m["id"] == "day-"+action })
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	orders := log.take() // with the stop
	if !strings.Contains(orders, "order answered") {
		t.Errorf("an order is not logged:\n%s", orders)
	}
	if bytes := 10*len(quiet) + 4*len(orders); bytes >= dayKB<<10 {
		t.Errorf("%d bytes a day with eight orders and four stops:\n%.2000s", bytes, orders)
	}
	t.Logf("%d bytes for %d readings, %d for two orders and the stop", len(quiet), readings, len(orders))
}
