//go:build chaos && linux

package chaos

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// number names a reading or an edge.
type number struct {
	sensor string
	run    string // the id of its spool and its number, as in k7m2qx/7
	seq    uint64
}

// item is what is known of one of them.
type item struct {
	kind    string
	message string        // until it has arrived
	at      time.Duration // when it was taken, on the clock since boot
	acked   time.Duration // when the daemon had its PUBACK; 0 is never
	came    time.Duration // when it arrived for the first time
	arrived bool
}

// claimedGap is what a gap claims.
type claimedGap struct {
	sensor, run string
	from, to    uint64 // to is the greatest number there is where the end is open
	certain     bool
	reason      string
}

// pause is a time in which something was not as it should be.
type pause struct{ from, to time.Duration }

// crash is an end of the broker.
type crash struct{ at, heard time.Duration }

// runState is what became of one run of the daemon.
type runState struct {
	first  map[string]time.Duration // when each sensor's first was taken; nil when its items are no longer kept
	latest map[string]uint64        // the count of each sensor's latest
	last   time.Duration            // when the last line came
	killed bool
	weak   bool // the disk could not be relied on at its end
	harmed bool // something was done to its files, or the disk could not be relied on at any time

	switchedOff bool // the next run is in another boot
}

// books are kept of what was taken and what arrived, of the orders and what
// the lines did.
type books struct {
	now         func() time.Duration // the clock since boot
	atRisk      time.Duration        // spool.at_risk
	mu          sync.Mutex
	changed     chan struct{} // closed at each change
	items       map[number]*item
	early       map[number]string // arrived before the witness was read
	first       map[string]uint64 // the latest first arrival of each sensor, run and kind
	claimedGaps []claimedGap
	told        map[string]bool // gaps by message, as they arrived
	ackGaps     map[string]time.Duration
	runs        map[string]*runState
	unknown     map[string]string // why the daemon does not know exactly what the end of a run cost; "" if it does
	crashes     []crash           // of the broker, which forgets what it had
	heard       time.Duration     // when the latest of what has arrived was acknowledged
	stops       []pause           // of the daemon
	kills       []time.Duration   // likewise
	weak        []pause           // in which nothing could be relied on to be on disk
	flipped     map[number]bool   // that were in a file whose bits were flipped
	gone        time.Duration     // when the spool was last removed and rewritten
	offs        map[time.Duration]bool
	wrong       []string

	run          string // that runs
	linked       bool
	denied       bool          // the link says that something is denied
	subscribed   time.Duration // since when the broker has kept orders for the daemon; 0 while it may not
	diskIll      bool          // we have done something to it
	diskDown     bool          // the daemon says so
	ledgerDown   bool          // likewise
	flood        bool          // the daemon says that it only counts what it refuses, and what came before
	weakFrom     time.Duration // since when one of the three; 0 while none
	dial, before clockDial     // and before it was turned, until the daemon says that it has
	silent       bool          // the witness has ended
	halted       string        // where the daemon has halted, and for what
	farewell     string
	nTaken, nGot int
	oldCame      time.Duration            // when something of an earlier run last arrived for the first time
	freshest     map[string]time.Duration // when the latest that has arrived of each sensor and kind was taken
	count        map[string]int
	most         map[string]time.Duration // the greatest of what was tolerated

	orders
}

func newBooks(now func() time.Duration) *books {
	return &books{
		now: now, changed: make(chan struct{}), items: map[number]*item{}, early: map[number]string{}, first: map[string]uint64{},
		freshest: map[string]time.Duration{}, told: map[string]bool{}, ackGaps: map[string]time.Duration{}, runs: map[string]*runState{}, unknown: map[string]string{},
		flipped: map[number]bool{}, offs: map[time.Duration]bool{}, count: map[string]int{}, most: map[string]time.Duration{}, orders: newOrders(),
	}
}

// wakeLocked wakes who waits for the books to change.
func (b *books) wakeLocked() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// wait waits until ok says so, for at most d. ok is called with mu held.
func (b *books) wait(d time.Duration, ok func() bool) bool {
	end := time.NewTimer(d)
	defer end.Stop()
	for {
		b.mu.Lock()
		good, changed := ok(), b.changed
		b.mu.Unlock()
		if good {
			return true
		}
		select {
		case <-changed:
		case <-end.C:
			return false
		}
	}
}

func (b *books) complain(format string, args ...any) {
	if len(b.wrong) < 20 {
		b.wrong = append(b.wrong, fmt.Sprintf(format, args...))
	}
	b.count["wrong"]++
}

// tolerate counts something that is not as one would have it, and how much.
func (b *books) tolerate(what string, much time.Duration) {
	b.count["TOLERATED "+what]++
	b.most["TOLERATED "+what] = max(b.most["TOLERATED "+what], much)
}

// entry takes in one line of the witness; see cmd/fieldpost/simulated.go.
func (b *books) entry(line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.wakeLocked()
	f := strings.Split(line, "\t")
	mono, err := strconv.ParseInt(f[min(1, len(f)-1)], 10, 64)
	if err != nil {
		b.complain("witness: %q", line)
		return
	}
	at := time.Duration(mono)
	switch {
	case f[0] == "O" && len(f) == 3:
		b.other(f[2])
	case f[0] == "L" && len(f) == 4:
		b.link(f[2] == "up", f[3], at)
	case f[0] == "S" && len(f) == 6:
		wall, _ := strconv.ParseInt(f[5], 10, 64)
		b.level(f[2], f[3], f[4] == "on", at, time.Unix(0, wall))
	case f[0] == "C" && len(f) == 2:
		b.before = b.dial
	case f[0] == "H" && len(f) == 4:
		b.halts(f[2], f[3], at)
	case (f[0] == "T" || f[0] == "A") && len(f) == 7:
		n := number{sensor: f[3], run: f[4]}
		n.seq, _ = strconv.ParseUint(f[5], 10, 64)
		if f[0] == "T" {
			b.take(n, at, f[2], f[6])
		} else {
			b.ack(n, at, f[6])
		}
	default:
		b.complain("witness: %q", line)
	}
}

func (b *books) other(message string) {
	var m struct{ Kind, Code, State, Status, Output, ID string }
	_ = json.Unmarshal([]byte(message), &m) // the daemon has made it of a record
	switch e := b.sent[m.ID]; {
	case m.Kind == "event" && m.State == "on":
		b.owns(m.Output, m.ID)
	case m.Kind == "answer" && e != nil:
		e.spoken = true
		if m.Status == "done" || m.Status == "unknown" {
			b.admits(e)
		}
	}
	if m.Kind != "fault" {
		return
	}
	b.count["fault "+m.Code+" "+m.State]++
	switch m.Code {
	case "spool_unavailable":
		b.diskDown = m.State == "raised"
	case "ledger_unavailable":
		b.ledgerDown = m.State == "raised"
	case "order_flood":
		b.flood = m.State == "raised"
	}
	b.weigh()
}

// weigh notes since when the disk cannot be relied on, or that it can.
func (b *books) weigh() {
	switch weak := b.diskIll || b.diskDown || b.ledgerDown; {
	case weak && b.weakFrom == 0:
		b.weakFrom = b.now()
	case !weak && b.weakFrom != 0:
		b.weak = append(b.weak, pause{b.weakFrom, b.now()})
		b.weakFrom = 0
	}
	if r := b.runs[b.run]; r != nil && b.weakFrom != 0 {
		r.harmed = true
	}
	b.mark()
}

// sickens notes that we do something to the disk, or have undone it.
func (b *books) sickens(ill bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.diskIll = ill
	b.weigh()
}

func (b *books) link(up bool, code string, at time.Duration) {
	b.linked, b.denied = up, strings.HasSuffix(code, "_denied")
	b.count[fmt.Sprintf("link up %v %s", up, code)]++
	if n := len(b.crashes); up && !b.denied && b.subscribed == 0 && (n == 0 || at > b.crashes[n-1].at) && at > b.addressed {
		b.subscribed = at
	}
}

// brokerForgets notes that the broker is about to forget what it has.
func (b *books) brokerForgets() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.crashes = append(b.crashes, crash{b.now(), b.heard})
	b.subscribed = 0
	b.wakeLocked()
}

// dialled notes how the daemon's clock is about to be set.
func (b *books) dialled(d clockDial) {
	b.dial = d
	b.offs[d.off] = true
	b.mark()
}

// ended notes how a run has ended that was killed.
func (b *books) ended() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.runs[b.run]; r != nil {
		r.weak = r.weak || b.weakFrom != 0
	}
	b.cutShort()
}

// ends notes that the daemon is about to be ended.
func (b *books) ends(killed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if killed {
		b.kills = append(b.kills, b.now())
		if r := b.runs[b.run]; r != nil {
			r.killed, r.weak = true, b.weakFrom != 0
		}
	}
	b.interrupt(killed)
}

// lived is how much of a time the daemon was not stopped and had its disk.
func (b *books) lived(from, to time.Duration) time.Duration {
	d := to - from
	lost := slices.Concat(b.stops, b.weak)
	if b.weakFrom != 0 {
		lost = append(lost, pause{b.weakFrom, to})
	}
	slices.SortFunc(lost, func(a, b pause) int { return int(a.from - b.from) })
	for _, s := range lost {
		if lo, hi := max(from, s.from), min(to, s.to); hi > lo {
			d -= hi - lo
			from = hi
		}
	}
	return d
}
