//go:build chaos && linux

package daemon_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// number names a reading or an edge.
type number struct {
	sensor   string
	run, seq uint64
}

// item is what is known of one of them.
type item struct {
	kind    string
	message string        // until it has arrived
	at      time.Duration // when it was taken, on the clock since boot
	acked   time.Duration // when the daemon had its PUBACK; 0 is never
	arrived bool
}

// hole is what a gap claims.
type hole struct {
	sensor        string
	run, from, to uint64 // to is the greatest number there is where the end is open
	certain       bool
	reason        string
}

// pause is a time in which something was not as it should be.
type pause struct{ from, to time.Duration }

// course is what became of one run of the daemon.
type course struct {
	first  map[string]time.Duration // when each sensor's first was taken; nil when its items are no longer kept
	last   time.Duration            // when the last line came
	killed bool
	weak   bool // the disk could not be relied on at its end
}

// books are kept of what was taken and what arrived, of the orders and what
// the lines did.
type books struct {
	now     func() time.Duration // the clock since boot
	atRisk  time.Duration        // spool.at_risk
	mu      sync.Mutex
	changed chan struct{} // closed at each change
	items   map[number]*item
	early   map[number]string // arrived before the witness was read
	first   map[string]uint64 // the latest first arrival of each sensor, run and kind
	holes   []hole
	told    map[string]bool // gaps by message, as they arrived
	ackGaps map[string]time.Duration
	runs    map[uint64]*course
	crashes []time.Duration // of the broker, which forgets what it had
	stops   []pause         // of the daemon
	kills   []time.Duration // likewise
	weak    []pause         // in which nothing could be relied on to be on disk
	flipped map[number]bool // that were in a file whose bits were flipped
	offs    map[time.Duration]bool
	wrong   []string

	run          uint64 // that runs
	starts       int    // of the daemon
	linked       bool
	denied       bool          // the link says that something is denied
	subscribed   time.Duration // since when the broker has kept orders for the daemon; 0 while it may not
	diskIll      bool          // we have done something to it
	diskDown     bool          // the daemon says so
	ledgerDown   bool          // likewise
	weakFrom     time.Duration // since when one of the three; 0 while none
	dial         clockDial
	silent       bool   // the witness has ended
	halted       string // where the daemon has halted, and for what
	farewell     uint64
	nTaken, nGot int
	freshest     map[string]time.Duration // when the latest that has arrived of each sensor and kind was taken
	count        map[string]int
	most         map[string]time.Duration // the greatest of what was tolerated

	orders
}

func newBooks(now func() time.Duration) *books {
	return &books{
		now: now, changed: make(chan struct{}), items: map[number]*item{}, early: map[number]string{}, first: map[string]uint64{},
		freshest: map[string]time.Duration{}, told: map[string]bool{}, ackGaps: map[string]time.Duration{}, runs: map[uint64]*course{},
		flipped: map[number]bool{}, offs: map[time.Duration]bool{}, count: map[string]int{}, most: map[string]time.Duration{}, orders: newOrders(),
	}
}

// stir wakes who waits for the books to change.
func (b *books) stir() {
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
	defer b.stir()
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
	case f[0] == "H" && len(f) == 4:
		b.halts(f[2], f[3])
	case (f[0] == "T" || f[0] == "A") && len(f) == 7:
		n := number{sensor: f[3]}
		n.run, _ = strconv.ParseUint(f[4], 10, 64)
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
	var m struct{ Kind, Code, State, ID string }
	_ = json.Unmarshal([]byte(message), &m) // the daemon has made it of a record
	if e := b.errands[m.ID]; m.Kind == "answer" && e != nil {
		e.speaks(b.starts)
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
	if n := len(b.crashes); up && !b.denied && b.subscribed == 0 && (n == 0 || at > b.crashes[n-1]) {
		b.subscribed = at
	}
}

// brokerForgets notes that the broker is about to forget what it has.
func (b *books) brokerForgets() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.crashes = append(b.crashes, b.now())
	b.subscribed = 0
	b.stir()
}

// dialled notes how the daemon's clock is set.
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

// starved is for how long nothing is taken by a daemon that gets no processor.
const starved = 300 * time.Millisecond

func (b *books) take(n number, at time.Duration, kind, message string) {
	b.run = n.run
	r := b.runs[n.run]
	if r == nil {
		r = &course{first: map[string]time.Duration{}}
		b.runs[n.run] = r
	}
	if _, ok := r.first[n.sensor]; !ok {
		r.first[n.sensor] = at
	}
	if r.last != 0 && at-r.last > starved && b.lived(r.last, at) > starved {
		// Four sensors are read every 50 ms: it did not run.
		b.tolerate("the daemon got no processor for a while", at-r.last)
		b.stops = append(b.stops, pause{r.last, at})
	}
	r.last = max(r.last, at)
	b.nTaken++
	if b.items[n] != nil {
		b.complain("taken twice: %+v", n)
		return
	}
	it := &item{kind: kind, message: message, at: at}
	b.items[n] = it
	if got, ok := b.early[n]; ok {
		delete(b.early, n)
		b.got(n, it, got)
	}
}

func (b *books) ack(n number, at time.Duration, message string) {
	if n.seq == 0 {
		b.ackGaps[message] = at
	} else if it := b.items[n]; it != nil {
		it.acked = at
	}
}

// arrive takes in what the subscriber got: a message, or an array of them.
func (b *books) arrive(payload []byte) {
	if len(payload) == 0 {
		return // what clears a retained message
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.stir()
	messages := []json.RawMessage{payload}
	if bytes.HasPrefix(payload, []byte("[")) {
		if err := json.Unmarshal(payload, &messages); err != nil {
			b.complain("arrived: %q: %v", payload, err)
		}
		b.count["batches arrived"]++
	}
	for _, m := range messages {
		b.message(string(m))
	}
}

func (b *books) message(payload string) {
	var m struct {
		Thing, Kind, Sensor, State, Reason, Action string
		Run, Seq                                   uint64
	}
	if err := json.Unmarshal([]byte(payload), &m); err != nil {
		b.complain("arrived: %q: %v", payload, err)
		return
	}
	switch {
	case m.Action != "":
		b.count["orders at the broker"]++
	case m.Kind == "answer":
		b.answer(payload)
	case m.Kind == "gap":
		b.gap(payload)
	case m.Kind == "status" && m.Reason == "stop":
		b.farewell = m.Run
	case m.Kind == "":
		n := number{m.Sensor, m.Run, m.Seq}
		if it := b.items[n]; it != nil {
			b.got(n, it, payload)
		} else if r := b.runs[n.run]; r == nil || r.first != nil {
			b.early[n] = payload
		}
	}
}

func (b *books) got(n number, it *item, payload string) {
	if it.arrived {
		b.count["came again"]++
		return
	}
	b.nGot++
	switch {
	case payload == it.message:
	case b.filled(it.message, payload):
		b.count["taken unsynced, arrived with its time"]++
	default:
		b.complain("taken %s, arrived %s", it.message, payload)
	}
	it.arrived, it.message = true, ""
	latest := n.sensor + " " + it.kind
	b.freshest[latest] = max(b.freshest[latest], it.at)
	// Edges go ahead of readings; each kind by itself keeps its order.
	k := fmt.Sprintf("%s %d %s", n.sensor, n.run, it.kind)
	if b.first[k] > n.seq {
		b.complain("%s %+v came for the first time after seq %d", it.kind, n, b.first[k])
	}
	b.first[k] = n.seq
}

// filled reports whether a message is another that was taken while the clock was
// not known to be true, with the time that it lacked.
func (b *books) filled(taken, arrived string) bool {
	before, after := map[string]any{}, map[string]any{}
	if json.Unmarshal([]byte(taken), &before) != nil || json.Unmarshal([]byte(arrived), &after) != nil {
		return false
	}
	if before["clock"] != "unsynced" || after["clock"] != nil {
		return false
	}
	was, err := time.Parse(time.RFC3339, fmt.Sprint(before["time"]))
	is, bad := time.Parse(time.RFC3339, fmt.Sprint(after["time"]))
	delete(before, "clock")
	delete(before, "time")
	delete(after, "time")
	if err != nil || bad != nil || !reflect.DeepEqual(before, after) {
		return false
	}
	by := is.Sub(was)
	for from := range maps.Keys(b.offs) {
		for to := range maps.Keys(b.offs) {
			if d := by - (to - from); d.Abs() < 20*time.Millisecond { // of rounding, and of the clock's being disciplined
				return true
			}
		}
	}
	return false
}

func (b *books) gap(payload string) {
	if b.told[payload] {
		return
	}
	b.told[payload] = true
	m := struct {
		Sensor, Reason string
		Run            uint64
		After          uint64  `json:"after_seq"`
		To             *uint64 `json:"to_seq"`
		Certain        *bool
		Count          int
	}{}
	if err := json.Unmarshal([]byte(payload), &m); err != nil {
		b.complain("arrived: %q: %v", payload, err)
		return
	}
	b.count["gap "+m.Reason]++
	if m.Sensor == "" {
		b.count["LOST and told: messages other than readings and edges"] += m.Count
		b.mayBeLost()
		return
	}
	h := hole{sensor: m.Sensor, run: m.Run, from: m.After + 1, to: 1<<64 - 1, certain: m.Certain == nil || *m.Certain, reason: m.Reason}
	if m.To != nil {
		h.to = *m.To
	}
	b.holes = append(b.holes, h)
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
