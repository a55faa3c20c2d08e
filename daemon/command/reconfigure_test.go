package command

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/output"
	"fieldpost/sensors/sim"
)

// After a reload the new name, topic and limits apply, and earlier orders are still
// known.
func TestReconfigure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run := newLineRun(t, &memJournal{t: t})
		a, far := order("a", "pump", "on", time.Minute), order("far", "pump", "on", 2*time.Hour)
		run.send(a, far)
		run.want("before", "a done", "far refused too_far_ahead")
		run.dispatcher.Reconfigure(Settings{Thing: "another", Topic: "another/orders", MaxLife: 3 * time.Hour})
		run.send(a)
		run.want("on the old topic")
		if s := run.dispatcher.Stats(); s.Elsewhere != 1 {
			t.Errorf("counted %+v", s)
		}
		on := func(payload []byte) {
			run.in <- run.on("another/orders", payload)
			synctest.Wait()
		}
		on([]byte(`{"thing":"` + thing + `","id":"b","action":"on","output":"pump"}`))
		run.want("for the old name")
		on(a)
		on(far)
		on(order("b", "lock", "off", 2*time.Hour))
		run.want("known ones, and one by the new limit", "a done", "b done", "far refused too_far_ahead")
		run.dispatcher.Reconfigure(Settings{Thing: thing, Topic: orders})
		run.send(order("c", "pump", "off", 0), order("d", "pump", "on", 2*time.Hour), order("b", "lock", "off", 2*time.Hour), []byte(`{"id":"e","action":"on","output":"pump"}`))
		run.want("by the limits of before", "b done", "c done", "d refused too_far_ahead", "e refused unstamped")
		if got := len(run.pins.did); got != 3 {
			t.Errorf("acted %d times: %q", got, run.pins.did)
		}
	})
}

// Orders from before a reload are known after it, as long as the old limits say, and for
// ever by their expiries.
func TestReconfigureKeepsTheLedger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run := newLedgerRun(t, &memJournal{t: t}, clock.Fake())
		a := order("a", "pump", "on", 50*time.Minute)
		run.gets(a, Done, "", 1)
		run.dispatcher.Reconfigure(Settings{Thing: thing, Topic: orders, MaxLife: time.Minute})
		run.gets(a, Done, "", 0)
		run.gets(order("b", "pump", "on", 2*time.Minute), Refused, TooFarAhead, 0)
		<-time.After(24*time.Hour + 40*time.Minute)
		run.gets(a, Done, "", 0)
		<-time.After(20 * time.Minute)
		run.gets(order("c", "pump", "off", 0), Done, "", 1) // the first one is forgotten
		run.dispatcher.Reconfigure(Settings{Thing: thing, Topic: orders})
		run.set(func() { run.ahead = -25 * time.Hour }) // by this clock it would be in time
		run.gets(a, Refused, Forgotten, 0)
	})
}

// Orders that wait during a reload are answered. None acts on a removed output, or
// energises because its level was safe before.
func TestReconfigureUnderOrders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		board := sim.New()
		bank := output.Open(output.Options{Board: board, Clock: clock.Fake(), Outputs: []output.Config{
			{Name: "pump", Pin: "GPIO27", MinOn: time.Minute}, {Name: "lamp", Pin: "GPIO6"},
		}})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- bank.Run(ctx) }()
		h := &harness{t: t, pins: newPins()}
		slow := &slowOutputs{Bank: bank, entered: make(chan struct{}, 9), release: make(chan struct{})}
		h.dispatcher = New(Options{Thing: thing, Topic: orders, Outputs: slow, Clock: clock.Fake(), Answer: h.answered})
		close(slow.release)
		h.gets(order("a", "pump", "on", time.Minute), Done, "", 0)
		slow.release = make(chan struct{})
		answers := make(chan string, 9)
		give := func(text string) {
			go func() {
				a, _ := h.dispatcher.Handle([]byte(text), false, "test")
				answers <- strings.TrimSpace(fmt.Sprint(a.ID, " ", a.Status, " ", a.Reason, " ", a.State))
			}()
			synctest.Wait()
		}
		expires := `","expires":"` + time.Now().Add(time.Minute).Format(time.RFC3339) + `"}`
		give(`{"id":"off","output":"lamp","action":"off"}`) // waits for the line when the reload comes
		give(`{"id":"on","output":"pump","action":"on` + expires)
		if _, err := bank.Reconfigure(t.Context(), []output.Config{{Name: "lamp", Pin: "GPIO6", Safe: output.SafeOn, Initial: output.InitialOn}}); err != nil {
			t.Fatal(err)
		}
		close(slow.release)
		synctest.Wait()
		got := map[string]bool{}
		for range 2 {
			got[<-answers] = true
		}
		if !got["off refused reloaded on"] || !got["on refused unknown_output"] {
			t.Errorf("answers %v", got)
		}
		if high, _ := board.Line("GPIO6").Level(); !high {
			t.Error("the lamp is off, and safe is on")
		}
		h.gets(order("b", "pump", "on", time.Minute), Refused, UnknownOutput, 0)
		h.gets(order("a", "pump", "on", time.Minute), Done, "", 0) // the first answer
		cancel()
		<-ended
	})
}

// slowOutputs is a bank with one order that waits until it is released.
type slowOutputs struct {
	*output.Bank
	entered chan struct{}
	release chan struct{}
}

func (s *slowOutputs) Do(o output.Order) (output.State, error) {
	<-s.release
	return s.Bank.Do(o)
}

// Queues of removed outputs are dropped.
func TestReconfigureDropsEmptyQueues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run := newLineRun(t, &memJournal{t: t}, "lock")
		run.send(order("a", "pump", "on", time.Minute), order("b", "lock", "off", time.Minute))
		run.dispatcher.Reconfigure(Settings{Thing: thing, Topic: orders})
		if got := len(run.dispatcher.queues); got != 1 {
			t.Errorf("%d queues, want that of the lock alone", got)
		}
		run.send(order("c", "lock", "toggle", time.Minute), order("d", "pump", "on", time.Minute))
		close(run.hang["lock"])
		synctest.Wait()
		run.want("all", "a done", "b done", "c done", "d done")
	})
}
