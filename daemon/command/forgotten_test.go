package command

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
)

// Every added time is in the set, however many there are. While there is room, times far
// from all of them are not. [CMD-20]
func TestTimeRanges(t *testing.T) {
	base := time.Date(2026, 11, 21, 19, 0, 0, 0, time.UTC)
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 20))
		var s timeRanges
		var added []time.Time
		wide := []time.Duration{time.Hour, 1000 * time.Hour, 100_000 * time.Hour}[r.IntN(3)]
		for range 300 {
			at := base.Add(time.Duration(r.Int64N(int64(wide))))
			s.add(at, base)
			added = append(added, at)
			if len(s) > maxRanges {
				t.Fatalf("seed %d: %d ranges", seed, len(s))
			}
			for i := range len(s) - 1 {
				if !s[i].to.Add(rangeGap).Before(s[i+1].from) || s[i].to.Before(s[i].from) {
					t.Fatalf("seed %d: ranges %v", seed, s)
				}
			}
		}
		for _, at := range added {
			if !s.has(at) {
				t.Fatalf("seed %d: %v is not in %v", seed, at, s)
			}
		}
		if s.has(base.Add(-time.Second)) || s.has(base.Add(wide)) {
			t.Errorf("seed %d: more than was added: %v", seed, s)
		}
	}
	// Years of orders, a week apart, and one from a wrong clock.
	var s timeRanges
	for i := range 500 {
		s.add(base.Add(time.Duration(i-500)*7*24*time.Hour), base)
	}
	s.add(base.Add(24*time.Hour), base)
	if now := base.Add(10 * time.Minute); s.has(now) || !s.has(base.Add(24*time.Hour)) {
		t.Errorf("what is next is taken for something that was forgotten: %v", s)
	}
}

// lies are errors of a clock that counts as synchronised.
var lies = map[string]time.Duration{
	"a day ahead": 25*time.Hour + time.Minute, "days ahead": 100 * time.Hour, "ten years ahead": 87600 * time.Hour,
	"a day behind": -25 * time.Hour, "ten years behind": -87600 * time.Hour,
}

// A clock may be wrong in one boot, over a reboot, or for months, and be corrected. No
// order that was carried out or refused acts when it is repeated, but a new one does,
// also without room to keep ids for longer. [CMD-20]
func TestWrongClocks(t *testing.T) {
	for what, lie := range lies {
		for _, lasts := range []time.Duration{2 * time.Minute, 26 * time.Hour, 60 * 24 * time.Hour} {
			for _, foreign := range []int{0, maxForeign} {
				t.Run(fmt.Sprint(what, " for ", lasts, ", ", foreign), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { wrongClock(t, lie, lasts, foreign) })
				})
			}
		}
	}
}

// machine is a board that can be rebooted, with its ledger's journals.
type machine struct {
	t             *testing.T
	base          clock.Clock
	p             *memJournal
	foreign       int // room for ids of earlier boots
	boots, starts int
}

// start starts a dispatcher, after a reboot if reboot is set, with the clock ahead.
// Everything that may be forgotten is forgotten, on disk too.
func (m *machine) start(ahead time.Duration, reboot bool) *ledgerRun {
	if reboot {
		m.boots++
	}
	start, name := m.base.Now().Mono, fmt.Sprint("boot ", m.boots)
	run := newLedgerRunWith(m.t, m.p, nil, m.base, func(run *ledgerRun) {
		run.ahead = ahead
		run.stamp = func(s clock.Stamp) clock.Stamp {
			s.Boot, s.Mono = name, s.Mono-start
			return s
		}
	})
	run.dispatcher.mu.Lock()
	run.dispatcher.ledger.orders.capacity.foreign = m.foreign
	run.dispatcher.ledger.orders.nextSweep = 0
	run.dispatcher.ledger.orders.dropLapsed(run.dispatcher.o.Clock.Now())
	run.dispatcher.mu.Unlock()
	m.p.mu.Lock()
	m.p.size = compactAt // so that it is rewritten without what was forgotten
	rewrote := m.p.rewrote
	m.p.mu.Unlock()
	m.starts++
	run.gets(order(fmt.Sprint("start ", m.starts), "lamp", "on", ahead+time.Minute), Refused, UnknownOutput, 0)
	synctest.Wait()
	if m.p.rewrote == rewrote {
		m.t.Error("not rewritten")
	}
	return run
}

func wrongClock(t *testing.T, lie, lasts time.Duration, foreign int) {
	m := &machine{t: t, base: clock.Fake(), p: &memJournal{t: t}, foreign: foreign}
	run := m.start(0, true)
	// It expires after the clock was corrected, and is in time then.
	done, far := order("done", "pump", "on", 30*time.Minute), order("far", "pump", "on", lasts+90*time.Minute)
	run.gets(done, Done, "", 1)
	run.gets(far, Refused, TooFarAhead, 0)
	run = m.start(lie, true)
	run.gets(order("lying", "pump", "on", lie+30*time.Minute), Done, "", 1)
	pass(lasts)
	m.start(lie, true)
	pass(2 * time.Minute)
	run = m.start(0, true)
	pass(2 * time.Minute)
	for id, text := range map[string][]byte{"done": done, "far": far} {
		a, _ := run.dispatcher.Handle(text, false, "test")
		known := a.Status == Done
		if known && id != "done" || run.pins.moved() != 0 {
			t.Errorf("%s came again: %+v, did %q", id, a, run.pins.did)
		}
		if id == "done" && foreign > 0 && lasts < time.Hour && !known {
			t.Errorf("there was room, and it came again: %+v", a)
		}
	}
	pass(2 * time.Hour)
	run.gets(order("new", "pump", "on", 30*time.Minute), Done, "", 1)
	run = m.start(lie, false) // the clock becomes wrong again in a boot in which it was right
	run.set(func() { run.ahead = lie })
	pass(2 * time.Minute)
	run.set(func() { run.ahead = 0 })
	before := run.pins.moved()
	run.dispatcher.Handle(order("new", "pump", "on", 30*time.Minute), false, "test")
	if run.pins.moved() != before {
		t.Errorf("did %q again", run.pins.did)
	}
}

// An order that was refused as too far ahead does not act when its time comes, even after
// thousands of other refusals. If it was forgotten because it could not act, it does not
// act when the clock is set back either. Orders that expire in a hundred years leave room
// for others. [CMD-11] [CMD-20]
func TestRefusedOrdersThatCouldAct(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base, j := clock.Fake(), &memJournal{t: t}
		run := newLedgerRun(t, j, base)
		far, early := order("far", "pump", "on", 90*time.Minute), order("early", "pump", "on", time.Millisecond)
		run.gets(far, Refused, TooFarAhead, 0)
		pass(time.Second)
		run.gets(early, Refused, Expired, 0)
		for i := range 2 * maxRefused {
			run.gets(order(fmt.Sprint("e", i), "pump", "on", -time.Minute), Refused, Expired, 0)
		}
		if run.dispatcher.ledger.findLocked("early") != nil {
			t.Error("the first of so many that had expired is known")
		}
		years := 0
		for i := range maxRefused {
			a, _ := run.dispatcher.Handle(order(fmt.Sprint("y", i), "pump", "on", 1e6*time.Hour), false, "test")
			if a.suppressed {
				break
			}
			years++
		}
		if years < maxRefused/4 || years > maxRefused/2 {
			t.Errorf("%d orders that expire in a hundred years are known", years)
		}
		suppressed := 0
		for i := range 2 * maxRefused {
			a, _ := run.dispatcher.Handle(order(fmt.Sprint("r", i), "pump", "on", 2*time.Hour), false, "test")
			if a.Reason != TooFarAhead {
				t.Fatalf("%+v", a)
			}
			if a.suppressed {
				suppressed++
			}
		}
		if suppressed == 0 {
			t.Error("all of so many were answered, and cannot be remembered")
		}
		run.set(func() { run.ahead = -time.Minute }) // before "early" has expired
		run.gets(early, Refused, Forgotten, 0)
		run = newLedgerRun(t, j, base)
		run.set(func() { run.ahead = -time.Minute })
		pass(time.Second)
		run.gets(early, Refused, Forgotten, 0)
		run.set(func() { run.ahead = time.Hour }) // "far" is in time now
		run.gets(far, Refused, TooFarAhead, 0)
		run.gets(order("new", "pump", "on", 59*time.Minute+time.Hour), Done, "", 1)
	})
}
