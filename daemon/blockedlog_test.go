package daemon_test

import (
	"log/slog"
	"testing"
	"time"

	"fieldpost/daemon"
	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/systemd"
	"fieldpost/daemon/uplink"
)

// shut is a writer that takes nothing until it is closed.
type shut chan struct{}

func (s shut) Write(p []byte) (int, error) {
	<-s
	return len(p), nil
}

// A journal that hangs holds up neither the link nor the pins.
func TestBlockedLogStopsNothing(t *testing.T) {
	s := daemontest.NewSite(t, awsiot.Tutorial())
	heard := s.Listen("test-ear")
	w := make(shut)
	t.Cleanup(func() { close(w) })
	linked := make(chan uplink.Status, 256)
	stop := s.Launch(daemon.Options{
		Config: s.Config("", ""), Log: slog.New(systemd.NewLogger(w, slog.LevelDebug).Handler()), Linked: daemontest.ConnectionChanges(linked),
	})
	daemontest.Await(t, "link", linked, func(st uplink.Status) bool { return st.Connected })
	daemontest.Await(t, "reading", heard, daemontest.Has("sensor", "air"))
	say := s.Publisher("test-mouth")
	for _, action := range []string{"on", "off", "on"} {
		say(daemontest.Order("c-"+action+time.Now().String(), action, time.Minute))
		daemontest.Await(t, "answer", heard, func(m map[string]any) bool { return m["kind"] == "answer" && m["state"] == action })
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	daemontest.Await(t, "farewell", heard, daemontest.Has("state", "offline"))
	if high, driven := s.Board.Line("GPIO27").Level(); driven {
		t.Errorf("line is high %v, driven %v; want it released", high, driven)
	}
}
