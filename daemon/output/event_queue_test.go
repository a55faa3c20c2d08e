package output

import (
	"bytes"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/message"
)

// blockedWriter is a log that blocks after it was shut.
type blockedWriter struct {
	shut atomic.Bool
	open chan struct{}
	text bytes.Buffer
}

func (b *blockedWriter) Write(p []byte) (int, error) {
	if b.shut.Load() {
		<-b.open
	}
	return b.text.Write(p)
}

// A log or an event that blocks delays neither making lines safe nor timers.
func TestBlockedLogDelaysNoLine(t *testing.T) {
	for _, c := range []string{"log", "event"} {
		t.Run(c, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newBoard()
				b := &blockedWriter{open: make(chan struct{})}
				o := Options{Board: s, Outputs: []Config{pump, {Name: "fan", Pin: "GPIO5"}, {Name: "lamp", Pin: "GPIO6"}}}
				told := 0
				if c == "log" {
					o.Log = slog.New(slog.NewTextHandler(b, nil))
				}
				o.Event = func(message.Record) {
					if c == "event" {
						_, _ = b.Write(nil)
					}
					told++
				}
				n := openWith(t, s, o)
				stop := n.run()
				n.do("pump", ActionOn, time.Second)
				n.do("fan", ActionOn, 0)
				b.shut.Store(true)
				n.after(time.Second)
				n.wantWire("GPIO27", Off) // its end was not delayed
				done := n.orderAsync(Order{Output: "lamp", Action: ActionOn})
				n.wantWire("GPIO6", On) // nor this one, although its answer is
				if err := n.bank.Safe(CauseStop); err != nil {
					t.Error(err)
				}
				n.wantWire("GPIO5", Off)
				n.wantWire("GPIO6", Off)
				b.shut.Store(false)
				close(b.open)
				if err := <-done; err != nil {
					t.Error(err)
				}
				stop()
				if told != 3+2+1+1+2 {
					t.Errorf("%d events told in the end, want 9", told)
				}
				if c == "log" && strings.Count(b.text.String(), "output changed") != 9 {
					t.Errorf("log\n%s", b.text.String())
				}
			})
		})
	}
}

// Without Run, log lines and events are still delivered in order.
func TestEventsWithoutRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, newBoard(), pump)
		n.do("pump", ActionOn, 0)
		if err := n.bank.Close(); err != nil {
			t.Error(err)
		}
		n.wantAllEvents("output=pump state=off cause=initial", "output=pump state=on cause=test", "output=pump state=off cause=stop")
	})
}
