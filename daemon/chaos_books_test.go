//go:build chaos && linux

package daemon_test

import (
	"bytes"
	"encoding/json"
	"fmt"
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
	first   map[string]time.Duration // when each sensor's first was taken
	last    time.Duration            // when the last line came
	killed  bool
	flipped bool // bits of a file of it were flipped
	stops   []pause
}

// books are kept of what was taken and what arrived.
type books struct {
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
	wrong   []string

	run          uint64 // that runs
	linked       bool
	denied       bool // the link says that something is denied
	diskDown     bool // the daemon says so
	silent       bool // the witness has ended
	farewell     uint64
	nTaken, nGot int
	freshest     map[string]time.Duration // when the latest that has arrived of each sensor and kind was taken
	count        map[string]int
}

func newBooks() *books {
	return &books{
		changed: make(chan struct{}), items: map[number]*item{}, early: map[number]string{}, first: map[string]uint64{},
		freshest: map[string]time.Duration{}, told: map[string]bool{}, ackGaps: map[string]time.Duration{}, runs: map[uint64]*course{}, count: map[string]int{},
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

// entry takes in one line of the witness; see suffer.
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
		b.linked, b.denied = f[2] == "up", strings.HasSuffix(f[3], "_denied")
		b.count["link "+f[2]+" "+f[3]]++
	case (f[0] == "T" || f[0] == "A") && len(f) == 7:
		n := number{sensor: f[3]}
		n.run, _ = strconv.ParseUint(f[4], 10, 64)
		n.seq, _ = strconv.ParseUint(f[5], 10, 64)
		if f[0] == "T" {
			b.take(n, at, f[2], f[6])
		} else {
			b.ack(n, at, f[6])
		}
	case f[0] != "R":
		b.complain("witness: %q", line)
	}
}

func (b *books) other(message string) {
	var m struct{ Kind, Code, State string }
	_ = json.Unmarshal([]byte(message), &m) // the child has made it of a record
	if m.Kind == "fault" {
		b.count[m.Code+" "+m.State]++
		if m.Code == "spool_unavailable" {
			b.diskDown = m.State == "raised"
		}
	}
}

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
	r.last = at
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
		Thing, Kind, Sensor, State, Reason string
		Run, Seq                           uint64
	}
	if err := json.Unmarshal([]byte(payload), &m); err != nil {
		b.complain("arrived: %q: %v", payload, err)
		return
	}
	switch {
	case m.Kind == "gap":
		b.gap(payload)
	case m.Kind == "status" && m.Reason == "stop":
		b.farewell = m.Run
	case m.Kind == "":
		n := number{m.Sensor, m.Run, m.Seq}
		if it := b.items[n]; it != nil {
			b.got(n, it, payload)
		} else if r := b.runs[n.run]; r == nil || !r.settled() {
			b.early[n] = payload
		}
	}
}

// settled reports whether the run's items are no longer kept.
func (r *course) settled() bool { return r.first == nil }

func (b *books) got(n number, it *item, payload string) {
	if it.arrived {
		b.count["came again"]++
		return
	}
	b.nGot++
	if payload != it.message {
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

func (b *books) gap(payload string) {
	if b.told[payload] {
		return
	}
	b.told[payload] = true
	m := struct {
		Sensor, Reason     string
		Run, AfterSeq, Seq uint64
		After              uint64  `json:"after_seq"`
		To                 *uint64 `json:"to_seq"`
		Certain            *bool
		Count              int
	}{}
	if err := json.Unmarshal([]byte(payload), &m); err != nil {
		b.complain("arrived: %q: %v", payload, err)
		return
	}
	b.count["gap "+m.Reason]++
	if m.Sensor == "" {
		b.count["gap of others"] += m.Count
		return
	}
	h := hole{sensor: m.Sensor, run: m.Run, from: m.After + 1, to: 1<<64 - 1, certain: m.Certain == nil || *m.Certain, reason: m.Reason}
	if m.To != nil {
		h.to = *m.To
	}
	b.holes = append(b.holes, h)
}
