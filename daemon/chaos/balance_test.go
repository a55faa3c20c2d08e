//go:build chaos && linux

package chaos

import (
	"slices"
	"time"
)

const (
	// A killed process may lose what it took in its last second or two.
	killCosts = 2 * time.Second
	// A reported reading is in the spool after this time.
	takingCosts = 50 * time.Millisecond
	// A broker that ends may lose messages that it has acknowledged and not delivered.
	// These are not losses of the daemon. The time of delivery is known this precisely.
	brokerCosts = time.Second
)

// balance checks every item of all runs except the given one, and drops them. It is
// called after everything of these runs has had the time to arrive.
func (b *checker) balance(but string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for message, at := range b.ackGaps {
		if !b.told[message] {
			if !b.brokerLost(at) {
				b.complain("acknowledged and did not arrive: %s", message)
			}
			b.count["LOST by the broker: gaps"]++
			b.gap(message)
		}
	}
	clear(b.ackGaps)
	clear(b.told)
	b.checkCertainGaps()
	b.checkKillGaps()
	b.checkUnassigned()
	b.checkOrders()
	for n, it := range b.items {
		if n.run == but {
			continue
		}
		if !it.arrived {
			b.missing(n, it)
		}
		delete(b.items, n)
	}
	for n, message := range b.early {
		if n.run != but {
			b.complain("arrived and was never taken: %s", message)
			delete(b.early, n)
		}
	}
	for run, r := range b.runs {
		if run != but {
			r.first = nil
		}
	}
	b.claimedGaps = slices.DeleteFunc(b.claimedGaps, func(h claimedGap) bool { return h.run != but })
	b.forget()
}

// forget drops times before the first item that was not checked yet.
func (b *checker) forget() {
	first := b.now()
	for _, it := range b.items {
		first = min(first, it.at)
	}
	past := func(p pause) bool { return p.to < first }
	b.stops, b.weak = slices.DeleteFunc(b.stops, past), slices.DeleteFunc(b.weak, past)
	b.kills = slices.DeleteFunc(b.kills, func(at time.Duration) bool { return at < first })
	clear(b.flipped)
}

// checkCertainGaps finds certain gaps that claim items that arrived.
func (b *checker) checkCertainGaps() {
	for _, h := range b.claimedGaps {
		if !h.certain {
			continue
		}
		if r := b.runs[h.run]; r == nil || h.to > r.latest[h.sensor] || h.from > h.to {
			b.complain("gap %+v claims what was never taken", h)
		}
		for n, it := range b.items {
			switch {
			case !h.covers(n) || !it.arrived:
			case it.acked == 0 && b.weakAt(it.came):
				// Such a run cannot record what it sends; see package spool.
				b.tolerate("claimed by a gap, and sent by a run whose disk failed", 0)
			case it.acked == 0:
				b.complain("gap %+v claims %+v, which arrived", h, n)
			case slices.ContainsFunc(b.kills, func(at time.Duration) bool { return it.acked <= at && b.activeTime(it.acked, at) <= killCosts }):
				b.tolerate("claimed by a gap, because a kill lost the acknowledgement", 0)
			default:
				b.complain("gap %+v claims %+v, which was acknowledged", h, n)
			}
		}
	}
}

// otherBoot is the reason in the daemon's log if a risk file is not used because the
// board was restarted; see package spool.
const otherBoot = "its risk file is of another boot"

// checkKillGaps finds gaps that claim more than a kill may have lost. In the same boot the
// daemon knows what was lost, if its files are unchanged. So the gap has an end, and
// there is no gap if everything was acknowledged long before. In another boot it is as
// after a power cut, and the daemon's log says so.
func (b *checker) checkKillGaps() {
	for _, h := range b.claimedGaps {
		r := b.runs[h.run]
		if h.reason != "crash" || r == nil || !r.killed || r.unreliable {
			continue
		}
		if why := b.unknown[h.run]; r.switchedOff && why == otherBoot {
			b.count["gap crash, of a run that ended with its boot"]++
			continue
		} else if h.to == 1<<64-1 || r.switchedOff || why != "" {
			b.complain("gap %+v (board switched off %v), and the log of the next run says: %q", h, r.switchedOff, why)
		}
		b.count["gap crash, of a run whose files were left alone"]++
		covered, open := false, false
		for n, it := range b.items {
			if h.covers(n) {
				covered = true
				open = open || it.acked == 0 || b.activeTime(it.acked, r.last) <= killCosts
			}
		}
		if covered && !open {
			b.complain("gap %+v claims nothing but what was acknowledged more than %v before the kill", h, killCosts)
		}
	}
}

// weakAt reports whether the disk was unreliable around that time.
func (b *checker) weakAt(at time.Duration) bool {
	return b.weakFrom != 0 && at >= b.weakFrom-killCosts || slices.ContainsFunc(b.weak, func(p pause) bool {
		return p.from-killCosts <= at && at <= p.to+killCosts
	})
}

func (h claimedGap) covers(n number) bool {
	return h.sensor == n.sensor && h.run == n.run && h.from <= n.seq && n.seq <= h.to
}

// awaits reports whether an item of an earlier run has neither arrived nor is in a gap.
func (b *checker) awaits() bool {
	for n, it := range b.items {
		if n.run != b.run && !it.arrived && it.acked == 0 && !slices.ContainsFunc(b.claimedGaps, func(h claimedGap) bool { return h.covers(n) }) {
			return true
		}
	}
	return false
}

// missing decides whether an item that did not arrive may be lost.
func (b *checker) missing(n number, it *item) {
	r := b.runs[n.run]
	if it.acked != 0 {
		if !b.brokerLost(it.acked) {
			b.complain("%+v was acknowledged and did not arrive", n)
		}
		b.count["LOST by the broker"]++
		return
	}
	told := map[string]bool{}
	for _, h := range b.claimedGaps {
		if h.covers(n) {
			told[h.reason] = true
		}
	}
	age := b.activeTime(it.at, r.last)
	switch {
	case len(told) == 0 && r.killed && age <= takingCosts && b.isLast(n):
		// It is reported before the spool has it, so only the report shows that there was
		// one.
		b.tolerate("taken, but not in the spool yet when the kill came", age)
	case len(told) == 0:
		b.complain("%+v is missing and in no gap; %v before the end of its run (killed %v, flipped %v)", n, age, r.killed, b.flipped[n])
	case told["spool_full"]:
		b.count["LOST and reported: spool_full"]++
	case told["too_old"]:
		b.count["LOST and reported: too_old"]++
	case b.flipped[n]:
		b.count["LOST and reported: in a file whose bits were flipped"]++
	case told["damaged"] && it.at <= b.gone:
		b.count["LOST and reported: in a spool that was taken away"]++
	case r.killed && r.weak && b.activeTime(r.first[n.sensor], r.last) <= 0:
		b.count["LOST and reported: by the kill of a run that never had a disk"]++
	case r.killed && !r.weak && age <= killCosts:
		b.lost("LOST and reported: by a kill", age)
	case r.killed && r.weak && age <= killCosts+b.atRisk:
		// Without a sync a failing disk does not have it.
		b.lost("LOST and reported: by a kill while the disk failed, within at_risk", age)
	default:
		b.complain("%+v was taken %v before the end of its run (killed %v) and is missing; gaps %v", n, age, r.killed, told)
	}
}

// isLast reports whether no later item of its sensor and run has arrived or is in a gap.
func (b *checker) isLast(n number) bool {
	for m, it := range b.items {
		if m.sensor == n.sensor && m.run == n.run && m.seq > n.seq && (it.arrived || it.acked != 0) {
			return false
		}
	}
	return !slices.ContainsFunc(b.claimedGaps, func(h claimedGap) bool {
		return h.sensor == n.sensor && h.run == n.run && h.to > n.seq
	})
}

// lost counts a loss and its time before the kill.
func (b *checker) lost(what string, age time.Duration) {
	b.count[what]++
	b.most[what] = max(b.most[what], age)
}

// brokerLost reports whether the broker may have lost an item that it acknowledged at
// that time. It delivers in order, so it has delivered everything before an item that
// arrived.
func (b *checker) brokerLost(acked time.Duration) bool {
	return slices.ContainsFunc(b.crashes, func(x crash) bool {
		if x.heard-brokerCosts > acked || acked > x.at+brokerCosts/2 {
			return false
		}
		b.most["LOST by the broker"] = max(b.most["LOST by the broker"], x.at-acked)
		return true
	})
}
