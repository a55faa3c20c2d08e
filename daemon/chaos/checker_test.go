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

// number identifies a reading or an edge.
type number struct {
	sensor string
	run    string // the id of its spool and its number, as in k7m2qx/7
	seq    uint64
}

// item is a reading or an edge.
type item struct {
	kind    string
	message string        // kept until it has arrived
	at      time.Duration // when it was taken, on the clock since boot
	acked   time.Duration // when the daemon had its PUBACK; 0: never
	came    time.Duration // when it arrived for the first time
	arrived bool
}

// claimedGap is the range that a gap claims.
type claimedGap struct {
	sensor, run string
	from, to    uint64 // to is the greatest number if the end is open
	certain     bool
	reason      string
}

// pause is a time span with a fault.
type pause struct{ from, to time.Duration }

// crash is an end of the broker.
type crash struct{ at, heard time.Duration }

// runState is the state of one run of the daemon.
type runState struct {
	first      map[string]time.Duration // when each sensor's first item was taken; nil after its items were dropped
	latest     map[string]uint64        // the number of each sensor's latest item
	last       time.Duration            // when the last report came
	killed     bool
	weak       bool // the disk was unreliable at its end
	unreliable bool // its files were changed, or the disk was unreliable at some time

	switchedOff bool // the next run is in another boot
}

// checker records what was taken and what arrived, the orders and the levels of lines,
// and reports what is wrong.
type checker struct {
	now         func() time.Duration // the clock since boot
	atRisk      time.Duration        // spool.at_risk
	mu          sync.Mutex
	changed     chan struct{} // closed at each change
	items       map[number]*item
	early       map[number]string // arrived before it was reported as taken
	first       map[string]uint64 // the latest number to arrive for the first time, by sensor, run and kind
	claimedGaps []claimedGap
	told        map[string]bool // gaps that have arrived, by message
	ackGaps     map[string]time.Duration
	runs        map[string]*runState
	unknown     map[string]string // why the daemon does not know exactly what the end of a run lost; "" if it does
	crashes     []crash           // of the broker, which loses its messages
	heard       time.Duration     // when the latest arrived item was acknowledged
	stops       []pause           // of the daemon
	kills       []time.Duration   // likewise
	weak        []pause           // times in which the disk was unreliable
	flipped     map[number]bool   // items in a file whose bits were flipped
	gone        time.Duration     // when the spool was last removed and rewritten
	offs        map[time.Duration]bool
	wrong       []string

	run          string // the present run
	linked       bool
	denied       bool          // the link reports a denial
	subscribed   time.Duration // since when the broker keeps orders for the daemon; 0 if it may not
	diskFault    bool          // the disk has an injected fault
	diskDown     bool          // the daemon reports it as unavailable
	ledgerDown   bool          // likewise
	flood        bool          // the daemon reports a flood, in which refused and repeated orders are only counted
	wasOff       bool          // the clock was wrong at some time, so expiries may have been forgotten too early
	weakFrom     time.Duration // since when one of the three is set; 0 if none is
	dial, before clockDial     // the clock's setting, and the one before, until the daemon confirms
	silent       bool          // the daemon's reports have ended
	halted       string        // where the daemon has halted, and over what
	farewell     string
	nTaken, nGot int
	oldCame      time.Duration            // when an item of an earlier run last arrived for the first time
	freshest     map[string]time.Duration // when the latest arrived item of each sensor and kind was taken
	count        map[string]int
	most         map[string]time.Duration // the greatest tolerated values

	orders
}

func newChecker(now func() time.Duration) *checker {
	return &checker{
		now: now, changed: make(chan struct{}), items: map[number]*item{}, early: map[number]string{}, first: map[string]uint64{},
		freshest: map[string]time.Duration{}, told: map[string]bool{}, ackGaps: map[string]time.Duration{}, runs: map[string]*runState{}, unknown: map[string]string{},
		flipped: map[number]bool{}, offs: map[time.Duration]bool{}, count: map[string]int{}, most: map[string]time.Duration{}, orders: newOrders(),
	}
}

// wakeLocked wakes callers of wait.
func (b *checker) wakeLocked() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// wait waits until ok returns true, for at most d. ok is called with mu held.
func (b *checker) wait(d time.Duration, ok func() bool) bool {
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

func (b *checker) complain(format string, args ...any) {
	if len(b.wrong) < 20 {
		b.wrong = append(b.wrong, fmt.Sprintf(format, args...))
	}
	b.count["wrong"]++
}

// tolerate counts something undesirable that is allowed, and its greatest value.
func (b *checker) tolerate(what string, much time.Duration) {
	b.count["TOLERATED "+what]++
	b.most["TOLERATED "+what] = max(b.most["TOLERATED "+what], much)
}

// entry handles one line of the daemon's reports; see cmd/fieldpost/simulated.go.
func (b *checker) entry(line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.wakeLocked()
	f := strings.Split(line, "\t")
	mono, err := strconv.ParseInt(f[min(1, len(f)-1)], 10, 64)
	if err != nil {
		b.complain("not a report: %q", line)
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
		b.recordHalt(f[2], f[3], at)
	case (f[0] == "T" || f[0] == "A") && len(f) == 7:
		n := number{sensor: f[3], run: f[4]}
		n.seq, _ = strconv.ParseUint(f[5], 10, 64)
		if f[0] == "T" {
			b.take(n, at, f[2], f[6])
		} else {
			b.ack(n, at, f[6])
		}
	default:
		b.complain("not a report: %q", line)
	}
}

func (b *checker) other(message string) {
	var m struct{ Kind, Code, State, Status, Output, ID string }
	_ = json.Unmarshal([]byte(message), &m) // the daemon always encodes valid JSON
	switch e := b.sent[m.ID]; {
	case m.Kind == "event" && m.State == "on":
		b.handleEvent(m.Output, m.ID)
	case m.Kind == "answer" && e != nil:
		e.spoken = true
		if m.Status == "done" || m.Status == "unknown" {
			b.handleAnswer(e)
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

// weigh updates since when the disk is unreliable.
func (b *checker) weigh() {
	switch weak := b.diskFault || b.diskDown || b.ledgerDown; {
	case weak && b.weakFrom == 0:
		b.weakFrom = b.now()
	case !weak && b.weakFrom != 0:
		b.weak = append(b.weak, pause{b.weakFrom, b.now()})
		b.weakFrom = 0
	}
	if r := b.runs[b.run]; r != nil && b.weakFrom != 0 {
		r.unreliable = true
	}
	b.mark()
}

// setDiskFault records that the disk has an injected fault, or no longer has one.
func (b *checker) setDiskFault(ill bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.diskFault = ill
	b.weigh()
}

func (b *checker) link(up bool, code string, at time.Duration) {
	b.linked, b.denied = up, strings.HasSuffix(code, "_denied")
	b.count[fmt.Sprintf("link up %v %s", up, code)]++
	if n := len(b.crashes); up && !b.denied && b.subscribed == 0 && (n == 0 || at > b.crashes[n-1].at) && at > b.addressed {
		b.subscribed = at
	}
}

// brokerForgets records that the broker is about to lose its messages.
func (b *checker) brokerForgets() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.crashes = append(b.crashes, crash{b.now(), b.heard})
	b.subscribed = 0
	b.wakeLocked()
}

// dialled records how the daemon's clock is about to be set.
func (b *checker) dialled(d clockDial) {
	b.dial = d
	b.offs[d.off] = true
	b.mark()
}

// ended records the end of a killed run.
func (b *checker) ended() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.runs[b.run]; r != nil {
		r.weak = r.weak || b.weakFrom != 0
	}
	b.cutShort()
}

// ends records that the daemon is about to be ended.
func (b *checker) ends(killed bool) {
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

// activeTime returns how much of a time span the daemon ran with a working disk.
func (b *checker) activeTime(from, to time.Duration) time.Duration {
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
