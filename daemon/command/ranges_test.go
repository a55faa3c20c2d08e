package command

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
)

// What was added is there, however much that is; what is far from all of it is
// not, while there is room. [CMD-20]
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
	// Years of orders, a week apart, and one that a lying clock has made.
	var s timeRanges
	for i := range 500 {
		s.add(base.Add(time.Duration(i-500)*7*24*time.Hour), base)
	}
	s.add(base.Add(24*time.Hour), base)
	if now := base.Add(10 * time.Minute); s.has(now) || !s.has(base.Add(24*time.Hour)) {
		t.Errorf("what is next is taken for something that was forgotten: %v", s)
	}
}

// lies are what a clock says that is wrong and says that it is right.
var lies = map[string]time.Duration{
	"a day ahead": 25*time.Hour + time.Minute, "days ahead": 100 * time.Hour, "ten years ahead": 87600 * time.Hour,
	"a day behind": -25 * time.Hour, "ten years behind": -87600 * time.Hour,
}

// A clock may lie in one boot, over a reboot, or for months, and be set right
// again: no order that was carried out or refused acts when it comes again, and
// a new one does, also where there is no room to know ids for longer. [CMD-20]
func TestLiesOfAClock(t *testing.T) {
	for what, lie := range lies {
		for _, lasts := range []time.Duration{2 * time.Minute, 26 * time.Hour, 60 * 24 * time.Hour} {
			for _, foreign := range []int{0, maxForeign} {
				t.Run(fmt.Sprint(what, " for ", lasts, ", ", foreign), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { liesOfAClock(t, lie, lasts, foreign) })
				})
			}
		}
	}
}

// machine is a board that boots, with what its ledger keeps.
type machine struct {
	t             *testing.T
	base          clock.Clock
	p             *paper
	foreign       int // how many ids of earlier boots there is room for
	boots, starts int
}

// start starts a desk, in a boot of its own if it is rebooted, with a clock that
// is ahead. What may be forgotten is, on disk too.
func (m *machine) start(ahead time.Duration, reboot bool) *office {
	if reboot {
		m.boots++
	}
	start, name := m.base.Now().Mono, fmt.Sprint("boot ", m.boots)
	f := newOfficeBeside(m.t, m.p, nil, m.base, func(f *office) {
		f.ahead = ahead
		f.stamp = func(s clock.Stamp) clock.Stamp {
			s.Boot, s.Mono = name, s.Mono-start
			return s
		}
	})
	f.desk.mu.Lock()
	f.desk.ledger.room.foreign = m.foreign
	f.desk.ledger.sweep = 0
	f.desk.ledger.forget(f.desk.o.Clock.Now())
	f.desk.mu.Unlock()
	m.p.mu.Lock()
	m.p.size = compactAt // so that it is written anew without what was forgotten
	rewrote := m.p.rewrote
	m.p.mu.Unlock()
	m.starts++
	f.gets(order(fmt.Sprint("start ", m.starts), "lamp", "on", ahead+time.Minute), Refused, UnknownOutput, 0)
	synctest.Wait()
	if m.p.rewrote == rewrote {
		m.t.Error("not written anew")
	}
	return f
}

func liesOfAClock(t *testing.T, lie, lasts time.Duration, foreign int) {
	m := &machine{t: t, base: clock.Fake(), p: &paper{t: t}, foreign: foreign}
	f := m.start(0, true)
	// It expires when the lie is over, and is in time then.
	done, far := order("done", "pump", "on", 30*time.Minute), order("far", "pump", "on", lasts+90*time.Minute)
	f.gets(done, Done, "", 1)
	f.gets(far, Refused, TooFarAhead, 0)
	f = m.start(lie, true)
	f.gets(order("lying", "pump", "on", lie+30*time.Minute), Done, "", 1)
	pass(lasts)
	m.start(lie, true)
	pass(2 * time.Minute)
	f = m.start(0, true)
	pass(2 * time.Minute)
	for id, text := range map[string][]byte{"done": done, "far": far} {
		a, _ := f.desk.Handle(text, false, "test")
		known := a.Status == Done
		if known && id != "done" || f.pins.moved() != 0 {
			t.Errorf("%s came again: %+v, did %q", id, a, f.pins.did)
		}
		if id == "done" && foreign > 0 && lasts < time.Hour && !known {
			t.Errorf("there was room, and it came again: %+v", a)
		}
	}
	pass(2 * time.Hour)
	f.gets(order("new", "pump", "on", 30*time.Minute), Done, "", 1)
	f = m.start(lie, false) // and the lie comes back in a boot that knew the time
	f.set(func() { f.ahead = lie })
	pass(2 * time.Minute)
	f.set(func() { f.ahead = 0 })
	before := f.pins.moved()
	f.desk.Handle(order("new", "pump", "on", 30*time.Minute), false, "test")
	if f.pins.moved() != before {
		t.Errorf("did %q again", f.pins.did)
	}
}

// An order that was refused as too far ahead does not act when its time has come
// though thousands of other refusals came after it; and where it was forgotten
// because it could not have acted, it does not either when the clock goes back.
// Orders that expire in a hundred years leave room for others. [CMD-11] [CMD-20]
func TestRefusedOrdersThatCouldAct(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base, p := clock.Fake(), &paper{t: t}
		f := newOffice(t, p, base)
		far, early := order("far", "pump", "on", 90*time.Minute), order("early", "pump", "on", time.Millisecond)
		f.gets(far, Refused, TooFarAhead, 0)
		pass(time.Second)
		f.gets(early, Refused, Expired, 0)
		for i := range 2 * maxRefused {
			f.gets(order(fmt.Sprint("e", i), "pump", "on", -time.Minute), Refused, Expired, 0)
		}
		if _, _, _, known := f.desk.ledger.first("early"); known {
			t.Error("the first of so many that had expired is known")
		}
		years := 0
		for i := range maxRefused {
			a, _ := f.desk.Handle(order(fmt.Sprint("y", i), "pump", "on", 1e6*time.Hour), false, "test")
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
			a, _ := f.desk.Handle(order(fmt.Sprint("r", i), "pump", "on", 2*time.Hour), false, "test")
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
		f.set(func() { f.ahead = -time.Minute }) // it was before "early" had expired
		f.gets(early, Refused, Forgotten, 0)
		f = newOffice(t, p, base)
		f.set(func() { f.ahead = -time.Minute })
		pass(time.Second)
		f.gets(early, Refused, Forgotten, 0)
		f.set(func() { f.ahead = time.Hour }) // its time has come
		f.gets(far, Refused, TooFarAhead, 0)
		f.gets(order("new", "pump", "on", 59*time.Minute+time.Hour), Done, "", 1)
	})
}
