package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/message"
	"fieldpost/daemon/output"
	"fieldpost/daemon/uplink"
	"fieldpost/sensors/sim"
)

// The dispatcher with a real bank on a simulated board: an order from its message to the
// line, its answer, and the event of its end.
func TestOrdersMovePins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		board := sim.New()
		var mu sync.Mutex
		var told []string
		tell := func(r message.Record) {
			mu.Lock()
			defer mu.Unlock()
			line := string(r.Kind)
			for _, f := range r.Fields {
				if f.Name != "hint" {
					line += fmt.Sprint(" ", f.Value)
				}
			}
			told = append(told, line)
		}
		bank := output.Open(output.Options{Board: board, Outputs: []output.Config{{Name: "pump", Pin: "GPIO27"}}, Clock: clock.Fake(), Event: tell})
		dispatcher := New(Options{Thing: thing, Topic: orders, Outputs: bank, Clock: clock.Fake(), Answer: func(r message.Record) <-chan struct{} { tell(r); return nil }})
		ctx, cancel := context.WithCancel(t.Context())
		in, ended := make(chan uplink.Message), make(chan error, 2)
		go func() { ended <- bank.Run(ctx) }()
		go func() { ended <- dispatcher.Serve(ctx, in) }()
		sent := &messages{}
		send := func(text string) {
			in <- sent.of([]byte(text))
			synctest.Wait()
		}

		stamped := `,"expires":"` + time.Now().Add(time.Minute).Format(time.RFC3339) + `","output":"pump"`
		send(`{"id":"a","action":"on","for":"30s"` + stamped + `}`)
		if high, driven := board.Line("GPIO27").Level(); !high || !driven {
			t.Error("the pump is not on")
		}
		<-time.After(30 * time.Second)
		synctest.Wait()
		if high, _ := board.Line("GPIO27").Level(); high {
			t.Error("the pump is still on")
		}
		send(`{"id":"a","action":"on","for":"30s"` + stamped + `}`)
		board.Line("GPIO27").Fail(syscall.EIO)
		send(`{"id":"b","action":"toggle"` + stamped + `}`)
		board.Line("GPIO27").Fail(nil)
		send(`{"id":"c","action":"pulse"` + stamped + `}`)
		if err := bank.Safe(output.CauseStop); err != nil {
			t.Error(err)
		}
		send(`{"id":"d","action":"on"` + stamped + `}`)
		cancel()
		for range 2 {
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
		want := []string{
			"event pump off initial", "event pump on mqtt a", "answer a done pump on", "event pump off for_ended a", "answer a done pump on",
			"answer b failed pump off output_failed", "event pump on mqtt c", "answer c done pump on", "event pump off stop",
			"answer d failed pump off stopping",
		}
		if !slices.Equal(told, want) {
			t.Errorf("told\n%q, want\n%q", told, want)
		}
		if len(sent.acked) != 5 {
			t.Errorf("%d messages acknowledged, want 5", len(sent.acked))
		}
	})
}

// min_on, min_off and interlocks refuse energising orders with their own reasons, and
// delay an order to the safe level, but no others. [CMD-17]
func TestBoundsOfOutputs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bank := output.Open(output.Options{Board: sim.New(), Clock: clock.Fake(), Outputs: []output.Config{
			{Name: "up", Pin: "GPIO27", MinOn: 20 * time.Second}, {Name: "down", Pin: "GPIO5", MinOff: time.Minute, Interlock: []string{"up"}},
		}})
		h := &harness{t: t, pins: newPins()}
		h.dispatcher = New(Options{Thing: thing, Topic: orders, Outputs: bank, Clock: clock.Fake(), Answer: h.answered})
		h.gets(order("a", "down", "on", time.Minute), Refused, TooSoon, 0)
		<-time.After(time.Minute)
		h.gets(order("b", "up", "on", time.Minute), Done, "", 0)
		h.gets(order("c", "down", "on", time.Minute), Refused, Interlocked, 0)
		off := make(chan Answer, 1)
		go func() {
			a, _ := h.dispatcher.Handle(order("d", "up", "off", time.Minute), false, "test")
			off <- a
		}()
		synctest.Wait()
		h.gets(order("e", "up", "toggle", time.Minute), Refused, TooSoon, 0)
		pass(20 * time.Second)
		if a := <-off; a.Status != Done || a.State != "off" {
			t.Errorf("answer %+v", a)
		}
		h.gets(order("a", "down", "on", time.Minute), Refused, TooSoon, 0) // its first answer
		h.gets(order("f", "down", "on", time.Minute), Done, "", 0)
		if err := bank.Close(); err != nil {
			t.Error(err)
		}
	})
}

// If another program holds the line, the order fails and its answer has no level.
func TestOrderToABusyLine(t *testing.T) {
	board := sim.New()
	board.Line("GPIO27").Hold("gpio-keys")
	bank := output.Open(output.Options{Board: board, Outputs: []output.Config{{Name: "pump", Pin: "GPIO27"}}, Clock: clock.Fake()})
	dispatcher := New(Options{Thing: thing, Topic: orders, Outputs: bank, Clock: clock.Fake()})
	a, ok := dispatcher.Handle([]byte(`{"id":"a","action":"off","output":"pump"}`), false, "test")
	if !ok || a.Status != Failed || a.State != "" || !strings.Contains(a.Hint, "gpio-keys") {
		t.Errorf("answer %+v, want failed with the holder and without a state", a)
	}
}
