package daemon_test

import (
	"log/slog"
	"testing"
	"time"

	"fieldpost/daemon"
	"fieldpost/daemon/awsiot"
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
	s := newSite(t, awsiot.Tutorial())
	heard := s.ear("test-ear")
	w := make(shut)
	t.Cleanup(func() { close(w) })
	linked := make(chan uplink.Status, 256)
	stop := s.launch(daemon.Options{
		Config: s.config("", ""), Log: slog.New(systemd.NewLogger(w, slog.LevelDebug).Handler()), Linked: changes(linked),
	})
	until(t, "link", linked, func(st uplink.Status) bool { return st.Connected })
	until(t, "reading", heard, is("sensor", "air"))
	say := s.mouth("test-mouth")
	for _, action := range []string{"on", "off", "on"} {
		say(order("c-"+action+time.Now().String(), action, time.Minute))
		until(t, "answer", heard, func(m map[string]any) bool { return m["kind"] == "answer" && m["state"] == action })
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	until(t, "farewell", heard, is("state", "offline"))
	if high, driven := s.board.Line("GPIO27").Level(); driven {
		t.Errorf("line is high %v, driven %v; want it released", high, driven)
	}
}
