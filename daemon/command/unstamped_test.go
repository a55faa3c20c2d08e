package command

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
)

// With commands.unstamped: accept an energising order may lack id and expires. What it
// has is checked nevertheless. [CMD-7]
func TestUnstampedAccepted(t *testing.T) {
	for _, c := range []struct {
		what     string
		id       string
		expires  time.Duration
		unsynced bool
		want     Code
		twice    int // how often it acts if it comes twice
	}{
		{"neither", "", 0, false, "", 2},
		{"neither, and no clock", "", 0, true, "", 2},
		{"id without expires", "a", 0, false, "", 1},
		{"id without expires, and no clock", "a", 0, true, "", 1},
		{"expires without id", "", time.Minute, false, "", 2},
		{"expires without id, late", "", -time.Minute, false, Expired, 0},
		{"expires without id, too far ahead", "", 2 * time.Hour, false, TooFarAhead, 0},
		{"expires without id, and no clock", "", time.Minute, true, ClockUnsynced, 0},
		{"both", "a", time.Minute, false, "", 1},
		{"both, late", "a", -time.Minute, false, Expired, 0},
	} {
		t.Run(c.what, func(t *testing.T) {
			h := newHarness(t)
			h.dispatcher.Reconfigure(Settings{Thing: thing, Topic: orders, MaxLife: time.Hour, Unstamped: true})
			h.unsynced = c.unsynced
			for i := range 2 {
				status, acts := Done, 0
				if c.want != "" {
					status = Refused
				} else if i < c.twice {
					acts = 1
				}
				h.gets(order(c.id, "pump", "on", c.expires), status, c.want, acts)
			}
		})
	}
}

// An order at QoS 1 may have been stored by the broker, and is refused. So is a retained
// one. [CMD-7] [CMD-3]
func TestUnstampedThatMayHaveBeenStored(t *testing.T) {
	h := newHarness(t)
	h.dispatcher.Reconfigure(Settings{Thing: thing, Topic: orders, MaxLife: time.Hour, Unstamped: true})
	sent := &messages{}
	text := []byte(`{"output":"pump","action":"on"}`)
	stored, fresh, retained := sent.of(text), sent.of(text), sent.of(text)
	fresh.QoS, retained.QoS, retained.Retained = 0, 0, true
	h.serve(stored)
	h.serve(retained)
	if len(h.pins.did) != 0 {
		t.Errorf("did %q", h.pins.did)
	}
	h.serve(fresh)
	if len(h.pins.did) != 1 || len(h.sent) != 3 {
		t.Errorf("did %q, answered %v", h.pins.did, h.sent)
	}
}

// An unstamped order that waits for its line acts soon or not at all. None acts while the
// ledger fails, even one that is not recorded. [CMD-7] [CMD-14]
func TestUnstampedDoesNotWaitLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memJournal{t: t}
		run := newLineRun(t, j, "pump")
		run.dispatcher.Reconfigure(Settings{Thing: thing, Topic: orders, MaxLife: time.Hour, Unstamped: true})
		send := func(texts ...string) {
			for _, text := range texts {
				m := run.of([]byte(text))
				m.QoS = 0
				run.in <- m
			}
			synctest.Wait()
		}
		send(`{"id":"hangs","output":"pump","action":"on"}`)
		send(`{"output":"pump","action":"toggle"}`, `{"id":"a","output":"pump","action":"toggle"}`)
		pass(unstampedLife + 1)
		run.want("late", "<nil> refused expired", "a refused expired")
		close(run.hang["pump"])
		synctest.Wait()
		run.want("the line is back", "hangs done")

		release := hanging(j, "append")
		send(`{"id":"b","output":"lock","action":"off"}`)
		pass(patience)
		send(`{"output":"lock","action":"off"}`, `{"output":"lock","action":"on"}`)
		run.want("the disk hangs", "<nil> done", "<nil> refused no_ledger", "b refused expired")
		release()
		synctest.Wait()
		send(`{"output":"lock","action":"off"}`)
		run.want("the disk answers", "<nil> done")
		if got, want := fmt.Sprint(run.pins.did), "[pump on 0s by mqtt order hangs lock on 0s by mqtt order  lock off 0s by mqtt order ]"; got != want {
			t.Errorf("did %s, want %s", got, want)
		}
	})
}

// The id of an order without expires is known over restarts. [CMD-11]
func TestUnstampedIDIsRemembered(t *testing.T) {
	j := &memJournal{t: t}
	run := newLedgerRun(t, j, clock.Fake())
	run.dispatcher.Reconfigure(Settings{Thing: thing, Topic: orders, MaxLife: time.Hour, Unstamped: true})
	text := order("a", "pump", "toggle", 0)
	run.gets(text, Done, "", 1)
	run = newLedgerRun(t, j, clock.Fake())
	run.dispatcher.Reconfigure(Settings{Thing: thing, Topic: orders, MaxLife: time.Hour, Unstamped: true})
	run.gets(text, Done, "", 0)
}
