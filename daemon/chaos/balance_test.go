//go:build chaos && linux

package chaos

import (
	"slices"
	"time"
)

const (
	// A killed process may lose what it took in its last second or two.
	killCosts = 2 * time.Second
	// A reading that the witness has heard of is in the spool after so long.
	takingCosts = 50 * time.Millisecond
	// A broker that ends may lose what it had acknowledged and not passed on
	// yet. That is no loss of the daemon's. When it was passed on is known to
	// about this much.
	brokerCosts = time.Second
)

// balance checks every item of all runs but the given one, and forgets them.
// It is called when all that these runs left has had its time to arrive.
func (b *books) balance(but string) {
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
	b.overclaims()
	b.killGaps()
	b.ownerless()
	b.verdicts()
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

// forget lets go of times before the first item that is still to be judged.
func (b *books) forget() {
	first := b.now()
	for _, it := range b.items {
		first = min(first, it.at)
	}
	past := func(p pause) bool { return p.to < first }
	b.stops, b.weak = slices.DeleteFunc(b.stops, past), slices.DeleteFunc(b.weak, past)
	b.kills = slices.DeleteFunc(b.kills, func(at time.Duration) bool { return at < first })
	clear(b.flipped)
}

// overclaims finds certain gaps that claim what had arrived.
func (b *books) overclaims() {
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
				// Package spool says that such a run cannot note what it gives out.
				b.tolerate("claimed by a gap, and sent by a run whose disk failed", 0)
			case it.acked == 0:
				b.complain("gap %+v claims %+v, which arrived", h, n)
			case slices.ContainsFunc(b.kills, func(at time.Duration) bool { return it.acked <= at && b.lived(it.acked, at) <= killCosts }):
				b.tolerate("claimed by a gap, as a kill took the acknowledgement along", 0)
			default:
				b.complain("gap %+v claims %+v, which was acknowledged", h, n)
			}
		}
	}
}

// otherBoot is the reason in the log of the daemon if a risk file is not used because the board
// was started anew; see package spool.
const otherBoot = "its risk file is of another boot"

// killGaps finds gaps that claim more than a kill may have cost. In the same boot the daemon knows
// what that is, if nothing was done to its files: so the gap has an end, and there is none
// where all was acknowledged long before. In another boot it is as after a power cut, and the
// daemon says so in its log.
func (b *books) killGaps() {
	for _, h := range b.claimedGaps {
		r := b.runs[h.run]
		if h.reason != "crash" || r == nil || !r.killed || r.harmed {
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
				open = open || it.acked == 0 || b.lived(it.acked, r.last) <= killCosts
			}
		}
		if covered && !open {
			b.complain("gap %+v claims nothing but what was acknowledged more than %v before the kill", h, killCosts)
		}
	}
}

// weakAt reports whether the disk could not be relied on at some time about
// then.
func (b *books) weakAt(at time.Duration) bool {
	return b.weakFrom != 0 && at >= b.weakFrom-killCosts || slices.ContainsFunc(b.weak, func(p pause) bool {
		return p.from-killCosts <= at && at <= p.to+killCosts
	})
}

func (h claimedGap) covers(n number) bool {
	return h.sensor == n.sensor && h.run == n.run && h.from <= n.seq && n.seq <= h.to
}

// awaits reports whether anything of the runs before this one has neither arrived
// nor is in a gap.
func (b *books) awaits() bool {
	for n, it := range b.items {
		if n.run != b.run && !it.arrived && it.acked == 0 && !slices.ContainsFunc(b.claimedGaps, func(h claimedGap) bool { return h.covers(n) }) {
			return true
		}
	}
	return false
}

// missing decides what it means that an item did not arrive.
func (b *books) missing(n number, it *item) {
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
	age := b.lived(it.at, r.last)
	switch {
	case len(told) == 0 && r.killed && age <= takingCosts && b.isLast(n):
		// The witness hears of it before the spool has it: nobody else knows that there was one.
		b.tolerate("on its way into the spool when the kill came", age)
	case len(told) == 0:
		b.complain("%+v is missing and in no gap; %v before the end of its run (killed %v, flipped %v)", n, age, r.killed, b.flipped[n])
	case told["spool_full"]:
		b.count["LOST and told: spool_full"]++
	case told["too_old"]:
		b.count["LOST and told: too_old"]++
	case b.flipped[n]:
		b.count["LOST and told: in a file whose bits were flipped"]++
	case told["damaged"] && it.at <= b.gone:
		b.count["LOST and told: in a spool that was taken away"]++
	case r.killed && r.weak && b.lived(r.first[n.sensor], r.last) <= 0:
		b.count["LOST and told: by the kill of a run that never had a disk"]++
	case r.killed && !r.weak && age <= killCosts:
		b.lost("LOST and told: by a kill", age)
	case r.killed && r.weak && age <= killCosts+b.atRisk:
		// What a disk that fails was not made to sync it is not trusted to have.
		b.lost("LOST and told: by a kill while the disk failed, within at_risk", age)
	default:
		b.complain("%+v was taken %v before the end of its run (killed %v) and is missing; gaps %v", n, age, r.killed, told)
	}
}

// isLast reports whether nothing later of its sensor and run has come out of the spool, as itself
// or in a gap.
func (b *books) isLast(n number) bool {
	for m, it := range b.items {
		if m.sensor == n.sensor && m.run == n.run && m.seq > n.seq && (it.arrived || it.acked != 0) {
			return false
		}
	}
	return !slices.ContainsFunc(b.claimedGaps, func(h claimedGap) bool {
		return h.sensor == n.sensor && h.run == n.run && h.to > n.seq
	})
}

// lost counts a loss, and how much before its kill it was.
func (b *books) lost(what string, age time.Duration) {
	b.count[what]++
	b.most[what] = max(b.most[what], age)
}

// brokerLost reports whether the broker may have forgotten what it acknowledged
// then. It passes on in order, so what came before something that has arrived
// it had passed on.
func (b *books) brokerLost(acked time.Duration) bool {
	return slices.ContainsFunc(b.crashes, func(x crash) bool {
		if x.heard-brokerCosts > acked || acked > x.at+brokerCosts/2 {
			return false
		}
		b.most["LOST by the broker"] = max(b.most["LOST by the broker"], x.at-acked)
		return true
	})
}
