package command

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/uplink"
)

// A limiter gives its burst at once, and then one token each interval.
func TestLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := limiter{burst: 4, interval: time.Second}
		took := func(n int) (got int) {
			for range n {
				if ok, _ := m.take(time.Now()); ok {
					got++
				}
			}
			return got
		}
		if n := took(10); n != 4 {
			t.Errorf("%d at once, want 4", n)
		}
		pass(1500 * time.Millisecond)
		if n := took(10); n != 1 {
			t.Errorf("%d after 1.5 s, want 1", n)
		}
		pass(500 * time.Millisecond)
		if n := took(10); n != 1 {
			t.Errorf("%d after half a second more, want 1", n)
		}
		pass(1000 * time.Hour)
		if _, calm := m.take(time.Now()); !calm || took(10) != 3 {
			t.Error("it is not full after a long while, or not calm")
		}
	})
}

// floods are kinds of orders that do not act, with their numbers of answers at once and
// each second.
var floods = []struct {
	what   string
	text   func(i int) []byte
	once   int
	second int
	reason Code
}{
	{"malformed", func(int) []byte { return []byte(`{"action":"on","outptu":"pump"}`) }, malformedBurst, 1, Malformed},
	{"malformed, with ids", func(i int) []byte { return fmt.Appendf(nil, `{"id":"m%d","action":"on","outptu":"pump"}`, i) }, malformedBurst, 1, Malformed},
	{"unknown action", func(i int) []byte { return order(fmt.Sprint("a", i), "pump", "blink", time.Minute) }, malformedBurst, 1, UnknownAction},
	{"too large", func(int) []byte { return order("", strings.Repeat("x", MaxOrder), "on", 0) }, malformedBurst, 1, TooLarge},
	{"unknown output", func(i int) []byte { return order(fmt.Sprint("u", i), "lamp", "on", time.Minute) }, refusedBurst, 5, UnknownOutput},
	{"unstamped", func(int) []byte { return order("", "pump", "on", 0) }, refusedBurst, 5, Unstamped},
	{"expired", func(i int) []byte { return order(fmt.Sprint("e", i), "pump", "on", -time.Minute) }, refusedBurst, 5, Expired},
	{"too far ahead", func(i int) []byte { return order(fmt.Sprint("f", i), "pump", "on", 2*time.Hour) }, refusedBurst, 5, TooFarAhead},
}

// flooded counts the answers to a flood.
type flooded struct {
	answers, counted int      // orders with an answer, and orders in summaries
	good             []string // answers to other orders
}

// hear counts the answers since its last call.
func (h *flooded) hear(run *lineRun, reason Code) {
	run.harness.mu.Lock()
	defer run.harness.mu.Unlock()
	for _, r := range run.sent {
		said := map[string]any{}
		for _, x := range r.Fields {
			said[x.Name] = x.Value
		}
		switch said["reason"] {
		case string(reason):
			h.answers++
		case string(NotAnswered):
			h.counted += int(said["count"].(int64))
			if said["id"] != nil || said["status"] != "refused" || !strings.Contains(said["hint"].(string), string(reason)) {
				run.t.Errorf("summary %v", said)
			}
		default:
			h.good = append(h.good, fmt.Sprint(said["id"], " ", said["status"]))
		}
	}
	run.sent = nil
}

// However fast refused orders come, only a limited number is answered. The others are
// acknowledged and counted, with a fault that clears when the flood is over. A good order
// is answered meanwhile. [CMD-19]
func TestFloodOfRefusals(t *testing.T) {
	const seconds = 12
	for _, f := range floods {
		t.Run(f.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := &memJournal{t: t}
				run := newLineRun(t, j)
				sent, h := 0, flooded{}
				for i := range seconds {
					for range 150 {
						run.in <- run.of(f.text(sent))
						sent++
					}
					run.send(order(fmt.Sprint("g", i), "pump", "toggle", time.Minute))
					h.hear(run, f.reason)
					pass(time.Second)
				}
				if n := f.once + seconds*f.second; h.answers > n || h.answers < n-10 {
					t.Errorf("%d answers, want about %d", h.answers, n)
				}
				if len(h.good) != seconds || run.pins.moved() != seconds {
					t.Errorf("%d good orders done, answered %q; want %d", run.pins.moved(), h.good, seconds)
				}
				if run.count() != sent+seconds {
					t.Errorf("%d acknowledged, want all %d", run.count(), sent+seconds)
				}
				run.faulty("order_flood raised")
				pass(2 * floodEndsAfter)
				h.hear(run, f.reason)
				run.faulty("order_flood cleared")
				if h.answers+h.counted != sent {
					t.Errorf("%d answers and %d counted, want together %d", h.answers, h.counted, sent)
				}
				if st := run.dispatcher.Stats(); st.Unanswered != uint64(h.counted) || st.Refused != uint64(sent) {
					t.Errorf("%+v, counted %d of %d", st, h.counted, sent)
				}
				if n := j.synced; n > h.answers+2*seconds+10 {
					t.Errorf("%d writes of the disk for %d answers", n, h.answers)
				}
			})
		})
	}
}

// An order that is repeated many times is not answered each time. Malformed, refused and
// repeated orders have separate limits. [CMD-19]
func TestFloodOfRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run := newLineRun(t, &memJournal{t: t})
		a := order("a", "pump", "on", time.Hour)
		run.send(a)
		run.want("first", "a done")
		for range 200 {
			run.send(slices.Repeat([][]byte{a, []byte(`{"action":"x"}`), order("", "pump", "on", 0)}, 3)...)
		}
		got := run.heard()
		n := map[string]int{}
		for _, line := range got {
			n[line]++
		}
		if n["a done"] != refusedBurst || n["<nil> refused malformed"]+n["<nil> refused unknown_action"] != malformedBurst || n["<nil> refused unstamped"] != refusedBurst {
			t.Errorf("answers %v", n)
		}
		if run.count() != 1801 || run.pins.moved() != 1 {
			t.Errorf("%d acknowledged, did %d", run.count(), run.pins.moved())
		}
	})
}

// On the local socket every order is answered, without using up the limits. [CMD-19]
func TestLocalOrdersAreAnswered(t *testing.T) {
	run := newLineRun(t, &memJournal{t: t})
	for i := range 2 * refusedBurst {
		run.gets([]byte(`{"action":"on"}`), Refused, Malformed, 0)
		run.gets(order(fmt.Sprint("l", i), "lamp", "on", time.Minute), Refused, UnknownOutput, 0)
	}
	run.faulty()
}

// An unanswered order may act when it is repeated. [CMD-19]
func TestUnansweredOrderMayAct(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base, synced := clock.Fake(), atomic.Bool{}
		run := newLineRunWith(t, Options{Journal: &memJournal{t: t}, Clock: clock.Func(func() clock.Stamp {
			s := base.Now()
			s.Synced = synced.Load()
			return s
		})})
		for range refusedBurst {
			run.send(order("", "pump", "on", 0))
		}
		run.heard()
		a := order("a", "pump", "on", time.Hour)
		run.send(a)
		run.want("no answer")
		synced.Store(true)
		run.send(a)
		run.want("again", "a done")
	})
}

// The same with messages from the broker: all waiting messages are decoded.
func TestSafeAheadInServe(t *testing.T) {
	h, sent := newHarness(t), &messages{}
	messages := []uplink.Message{sent.of(order("1", "pump", "on", time.Minute)), sent.of([]byte("x")), sent.of(order("2", "pump", "off", 0)), sent.of(order("3", "lock", "off", time.Minute))}
	in := make(chan uplink.Message, len(messages))
	for _, x := range messages[1:] {
		in <- x
	}
	if batch := h.dispatcher.receiveBatch(messages[0], true, in, &inOrderAcks{}); len(batch) != 4 || !batch[0].safe || batch[0].order.ID != "2" {
		t.Errorf("the first of %d is %+v", len(batch), batch[0])
	}
	h.serve(messages...)
	slices.Sort(h.pins.did)
	if got, want := fmt.Sprint(h.pins.did), "[lock off 0s by mqtt order 3 pump off 0s by mqtt order 2]"; got != want || sent.count() != 4 {
		t.Errorf("did %s, want %s; %d acknowledged", got, want, sent.count())
	}
}

// Of the waiting messages, an order to the safe level goes first. Earlier orders for its
// output are refused, later ones are carried out. [CMD-15] [CMD-19]
func TestSafeFirstOfWhatWaits(t *testing.T) {
	of := func(text []byte) arrival {
		o, err := Decode(text, thing)
		return arrival{order: o, err: err, safe: o.Output == "pump" && o.Action == "off"}
	}
	var batch []arrival
	for _, text := range [][]byte{
		order("1", "pump", "on", time.Minute), order("2", "lock", "off", time.Minute), []byte("x"), order("3", "pump", "off", 0),
		order("4", "pump", "on", time.Minute), order("5", "pump", "off", 0),
	} {
		batch = append(batch, of(text))
	}
	var got []string
	for _, x := range safeFirst(batch) {
		got = append(got, fmt.Sprint(x.order.ID, " ", x.overtaken))
	}
	if want := []string{"3 false", "5 false", "1 true", "2 false", " false", "4 true"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
