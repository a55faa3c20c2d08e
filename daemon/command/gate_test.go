package command

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/message"
	"fieldpost/daemon/output"
)

func TestDone(t *testing.T) {
	h := newHarness(t)
	a := h.gets([]byte(`{"id":"c-81","output":"pump","action":"on","for":"30s","expires":"`+time.Now().Add(time.Minute).Format(time.RFC3339)+`"}`), Done, "", 1)
	if a.ID != "c-81" || a.Output != "pump" || a.State != "on" {
		t.Errorf("answer %+v", a)
	}
	if want := []string{"pump on 30s by test order c-81"}; !slices.Equal(h.pins.did, want) {
		t.Errorf("did %q, want %q", h.pins.did, want)
	}
	got := string(message.Encode(thing, a.Record()))
	for _, want := range []string{`"thing":"thing-greenhouse"`, `"kind":"answer"`, `"id":"c-81","status":"done","output":"pump","state":"on"`, `"time":"`} {
		if !strings.Contains(got, want) {
			t.Errorf("message %s lacks %s", got, want)
		}
	}
}

// The first rules (malformed, retained, unknown output) also apply to orders to the safe
// level. [CMD-2] [CMD-3] [CMD-5]
func TestRefusedWhateverTheLevel(t *testing.T) {
	for _, action := range []string{"on", "off"} {
		h := newHarness(t)
		h.gets([]byte(`{"id":"a","output":"pump","action":"`+action+`","expires":"never"}`), Refused, Malformed, 0)
		h.gets(order("b", "pump", "blink", time.Minute), Refused, UnknownAction, 0)
		if a := h.gets(order("c", "pumpe", action, time.Minute), Refused, UnknownOutput, 0); !strings.Contains(a.Hint, `"pumpe"`) || a.State != "" {
			t.Errorf("answer %+v", a)
		}
		a, ok := h.dispatcher.Handle(order("d", "pump", action, time.Minute), true, "mqtt")
		if !ok || a.Status != Refused || a.Reason != Retained || a.ID != "d" || a.Output != "pump" || len(h.pins.did) != 0 {
			t.Errorf("retained: %+v, %v, did %q", a, ok, h.pins.did)
		}
		// Their ids were not recorded: a correct order with the same id is new. [CMD-11]
		h.gets(order("d", "pump", action, time.Minute), Done, "", 1)
		h.gets(order("a", "pump", action, time.Minute), Done, "", 1)
	}
}

// [CMD-7] [CMD-8] [CMD-9] [CMD-10], each together with [CMD-6].
func TestTimeOfOrders(t *testing.T) {
	for _, c := range []struct {
		what     string
		id       string
		expires  time.Duration
		unsynced bool
		want     Code
	}{
		{"in time", "a", time.Minute, false, ""},
		{"a nanosecond before", "a", 1, false, ""},
		{"just expired", "a", -1, false, Expired},
		{"at its expiry", "a", 0, false, Expired},
		{"long expired", "a", -1e6 * time.Hour, false, Expired},
		{"as far ahead as may be", "a", time.Hour, false, ""},
		{"further ahead", "a", time.Hour + 1, false, TooFarAhead},
		{"in another century", "a", 1e6 * time.Hour, false, TooFarAhead},
		{"no id", "", time.Minute, false, Unstamped},
		{"no clock", "a", time.Minute, true, ClockUnsynced},
		{"expired without a clock", "a", -time.Minute, true, ClockUnsynced},
		{"no id and no clock", "", time.Minute, true, Unstamped},
	} {
		t.Run(c.what, func(t *testing.T) {
			for _, o := range []struct {
				out, action string
				energises   bool
			}{
				{"pump", "on", true}, {"pump", "off", false}, {"lock", "off", true}, {"lock", "on", false},
				{"pump", "toggle", true}, {"lock", "toggle", true}, {"pump", "pulse", true}, {"lock", "pulse", true},
			} {
				synctest.Test(t, func(t *testing.T) {
					h := newHarness(t)
					h.unsynced = c.unsynced
					text := order(c.id, o.out, o.action, c.expires)
					if c.expires == 0 {
						text = order(c.id, o.out, o.action, time.Minute)
						<-time.After(time.Minute)
					}
					if o.energises && c.want != "" {
						h.gets(text, Refused, c.want, 0)
						return
					}
					h.gets(text, Done, "", 1)
				})
			}
		})
	}
	h := newHarness(t)
	h.gets(order("a", "pump", "on", 0), Refused, Unstamped, 0)
	h.gets(order("", "pump", "on", 0), Refused, Unstamped, 0)
	h.gets(order("", "pump", "off", 0), Done, "", 1)
	h.gets(order("b", "pump", "off", 0), Done, "", 1)
}

// [CMD-4]
func TestKnownID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		on := order("a", "pump", "toggle", time.Minute)
		first := h.gets(on, Done, "", 1)
		<-time.After(10 * time.Second)
		for range 3 {
			if a := h.gets(on, Done, "", 0); a != first {
				t.Errorf("answer %+v, want the first again, %+v", a, first)
			}
		}
		// Another energising order with the same id also gets the first answer.
		if a := h.gets(order("a", "lock", "off", time.Minute), Done, "", 0); a != first {
			t.Errorf("answer %+v, want the first again", a)
		}
		// Switching off is possible with any id, but only once.
		h.gets(order("a", "pump", "off", time.Minute), Done, "", 1)
		if a := h.gets(on, Done, "", 0); a != first {
			t.Errorf("answer %+v, want the first again", a)
		}
		// A repeated order to the safe level is carried out once.
		off := order("b", "pump", "off", 0)
		h.gets(off, Done, "", 1)
		h.gets(off, Done, "", 0)
		// A refused order stays refused, even if it would be in time now.
		h.unsynced = true
		early := order("c", "pump", "on", 30*time.Minute)
		h.gets(early, Refused, ClockUnsynced, 0)
		h.unsynced = false
		h.gets(early, Refused, ClockUnsynced, 0)
		far := order("d", "pump", "on", 61*time.Minute)
		h.gets(far, Refused, TooFarAhead, 0)
		<-time.After(2 * time.Minute)
		h.gets(far, Refused, TooFarAhead, 0)
		if s := h.dispatcher.Stats(); s != (Stats{Done: 3, Refused: 2, Again: 8}) {
			t.Errorf("counts %+v", s)
		}
		// Of these, each order is remembered once, the latest first.
		recent := h.dispatcher.Recent()
		if len(recent) != 5 || recent[0].ID != "d" || recent[0].Reason != TooFarAhead || recent[1].ID != "c" || recent[1].Status != Refused || recent[2].Status != Done {
			t.Errorf("recent %+v", recent)
		}
		for n := range 2 * recentMax {
			h.gets(order(fmt.Sprintf("e%d", n), "pump", "off", 0), Done, "", 1)
			<-time.After(time.Minute)
		}
		if recent = h.dispatcher.Recent(); len(recent) != recentMax || recent[0].ID != fmt.Sprintf("e%d", 2*recentMax-1) {
			t.Errorf("recent %d, %+v", len(recent), recent[0])
		}
	})
}

// An id is still known if the wall clock is set back after the order was carried out.
// [CMD-11]
func TestIDIsKnownUntilExpiryAndADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		on := order("a", "pump", "on", time.Hour)
		h.gets(on, Done, "", 1)
		<-time.After(25*time.Hour - time.Second)
		h.ahead = -25 * time.Hour // corrected, so that the order is in time again
		h.gets(on, Done, "", 0)
		<-time.After(time.Minute)
		h.gets(on, Done, "", 0)
		h.ahead = 0
		<-time.After(time.Minute)
		h.gets(on, Refused, Expired, 0) // forgotten, and checked again
	})
}

// [CMD-11] [CMD-6]
func TestFullMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		m := h.dispatcher.ledger
		m.mu.Lock()
		m.orders.capacity = capacity{50, 20, maxForeign, maxActedBytes, maxRefusedBytes}
		m.mu.Unlock()
		for i := range 50 {
			if a, _ := h.dispatcher.Handle(order(fmt.Sprint(i), "pump", "on", time.Minute), false, ""); a.Status != Done {
				t.Fatalf("order %d: %+v", i, a)
			}
		}
		h.gets(order("one more", "pump", "on", time.Minute), Refused, TooMany, 0)
		h.gets(order("safe", "pump", "off", time.Minute), Done, "", 1)
		h.gets(order("0", "pump", "on", time.Minute), Done, "", 0)
		<-time.After(25*time.Hour + time.Minute)
		h.gets(order("next day", "pump", "on", time.Minute), Done, "", 1)
		for i := range 21 {
			h.gets(order(fmt.Sprint("r", i), "pump", "on", -time.Hour), Refused, Expired, 0)
		}
		h.gets(order("r0", "pump", "on", time.Minute), Done, "", 1) // was evicted
		h.gets(order("r1", "pump", "on", time.Minute), Refused, Expired, 0)
		if len(m.orders.byID) != 22 || m.orders.used.acted != 2 {
			t.Errorf("%d known, %d acted", len(m.orders.byID), m.orders.used.acted)
		}
	})
}

func TestFailed(t *testing.T) {
	for _, c := range []struct {
		err    error
		status Status
		reason Code
	}{
		{&output.FailedError{Output: "pump", Err: errors.New("set line: input/output error")}, Failed, OutputFailed},
		{output.ErrStopped, Failed, Stopping},
		{fmt.Errorf("%w %q", output.ErrUnknown, "pump"), Refused, UnknownOutput},
	} {
		h := newHarness(t)
		h.pins.fail = c.err
		text := order("a", "pump", "on", time.Minute)
		first := h.gets(text, c.status, c.reason, 1)
		if a := h.gets(text, c.status, c.reason, 0); a != first {
			t.Errorf("again %+v, want %+v", a, first)
		}
		if c.reason == OutputFailed && !strings.Contains(first.Hint, "input/output error") {
			t.Errorf("hint %q does not say what happened", first.Hint)
		}
	}
}

// slowPins are outputs on which every act waits until it is released.
type slowPins struct {
	*pins
	begun, end chan struct{}
}

func (s slowPins) Do(o output.Order) (output.State, error) {
	s.begun <- struct{}{}
	<-s.end
	return s.pins.Do(o)
}

// An order that is repeated while it is pending is not carried out again, and gets the
// answer of the first one. Orders for other outputs continue. [CMD-12]
func TestOrderUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		slow := slowPins{h.pins, make(chan struct{}, 2), make(chan struct{})}
		h.dispatcher.o.Outputs = slow
		text := order("a", "pump", "on", time.Minute)
		first, joined, other := make(chan Answer, 1), make(chan Answer, 20), make(chan Answer, 1)
		handle := func(text []byte, to chan Answer) {
			a, _ := h.dispatcher.Handle(text, false, "test")
			to <- a
		}
		go handle(text, first)
		<-slow.begun
		for range 10 {
			go handle(text, joined)
		}
		go handle(order("b", "lock", "off", time.Minute), other)
		<-slow.begun
		synctest.Wait()
		if len(first)+len(other) != 0 || len(joined) != 10-maxQueuedLong {
			t.Errorf("%d joined were answered, want those for which there is no room", len(joined))
		}
		for range len(joined) {
			if a := <-joined; a.Status != Unknown || a.Reason != NoResult || a.Output != "pump" {
				t.Errorf("answer %+v", a)
			}
		}
		close(slow.end)
		want := <-first
		if o := <-other; want.Status != Done || o.Status != Done {
			t.Errorf("answers %+v, %+v", want, o)
		}
		for range maxQueuedLong {
			if a := <-joined; a != want {
				t.Errorf("answer %+v, want %+v", a, want)
			}
		}
		h.gets(text, Done, "", 0)
		if len(h.pins.did) != 2 {
			t.Errorf("did %q", h.pins.did)
		}
	})
}

func TestSameOrderFromManySides(t *testing.T) {
	h := newHarness(t)
	text := order("a", "pump", "toggle", time.Minute)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { h.dispatcher.Handle(text, false, "test") })
	}
	wg.Wait()
	if len(h.pins.did) != 1 {
		t.Errorf("carried out %d times: %q", len(h.pins.did), h.pins.did)
	}
}

func TestReasons(t *testing.T) {
	seen := map[Code]bool{}
	for _, r := range Reasons {
		if seen[r.Code] || r.Means == "" || r.Do == "" || !strings.HasSuffix(r.Means, ".") || !strings.HasSuffix(r.Do, ".") && !strings.HasSuffix(r.Do, "`.") {
			t.Errorf("reason %+v: want it once, with two sentences", r)
		}
		seen[r.Code] = true
		if r.Status != Refused && r.Status != Failed && r.Status != Unknown {
			t.Errorf("reason %s has status %q", r.Code, r.Status)
		}
		if lookup(r.Code) != r {
			t.Errorf("lookup(%s) gives %+v", r.Code, lookup(r.Code))
		}
	}
	if r := lookup("made_up"); !strings.Contains(r.Do, "bug") {
		t.Errorf("an unregistered reason gives %+v", r)
	}
	if a := answerFor(Malformed, `unknown key "x"`); !strings.HasPrefix(a.Hint, `The order cannot be parsed: unknown key "x". Send`) {
		t.Errorf("hint %q", a.Hint)
	}
}
