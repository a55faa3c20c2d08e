package rehearse

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"fieldpost/daemon/message"
)

// number identifies a reading or an edge.
type number struct {
	Sensor string `json:"sensor"`
	Run    uint64 `json:"run"`
	Seq    uint64 `json:"seq"`
}

// gap is a range of numbers that a gap message reports.
type gap struct {
	Sensor string `json:"sensor"`
	Run    uint64 `json:"run"`
	After  int64  `json:"after"`
	To     int64  `json:"to"` // 0: open
	Reason string `json:"reason"`
}

// covers reports whether the gap is about a reading.
func (g gap) covers(n number) bool {
	return g.Sensor == n.Sensor && g.Run == n.Run && int64(n.Seq) > g.After && (g.To == 0 || int64(n.Seq) <= g.To)
}

// answer is what the daemon answered to an order.
type answer struct{ status, reason string }

// String says the status, and the reason if there is one.
func (a answer) String() string {
	if a.reason == "" {
		return a.status
	}
	return a.status + ", " + a.reason
}

// recorder keeps what a daemon took and what the broker acknowledged, and judges by the
// sequence numbers. Its methods may be called from any goroutine.
type recorder struct {
	mu      sync.Mutex
	changed chan struct{} // closed at each change
	ended   error         // why the daemon does not run any more; nil: it runs, or was not started
	taken   map[number]bool
	acked   map[number]bool
	waiting map[number]bool // taken, and neither acknowledged nor in a gap
	twice   []number        // given to two readings
	gaps    []gap
	last    map[string]message.Record // the latest reading or edge of each sensor
	count   map[string]int            // readings by sensor
	edges   map[string]int
	edge    map[string]message.Record // the latest edge of each input
	changes map[string]int64          // that the edges stand for
	raised  map[string]bool           // faults raised now, as "subject code"
	ever    map[string]bool           // faults that were raised
	upon    map[string][]string       // the sensors that a fault of a bus was about, which its end does not name
	answers map[string]answer         // the first of each order, by id
}

func newRecorder() *recorder {
	return &recorder{
		changed: make(chan struct{}), taken: map[number]bool{}, acked: map[number]bool{}, waiting: map[number]bool{}, last: map[string]message.Record{}, count: map[string]int{}, edges: map[string]int{}, edge: map[string]message.Record{}, changes: map[string]int64{},
		raised: map[string]bool{}, ever: map[string]bool{}, upon: map[string][]string{}, answers: map[string]answer{},
	}
}

// changedLocked wakes those who wait.
func (r *recorder) changedLocked() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// take is told each record that the daemon has taken.
func (r *recorder) take(m message.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.changedLocked()
	switch m.Kind {
	case message.Reading, message.Edge:
		n := number{m.Sensor, m.Run, m.Seq}
		if r.taken[n] {
			r.twice = append(r.twice, n)
		}
		r.taken[n] = true
		if !r.acked[n] && !slices.ContainsFunc(r.gaps, func(g gap) bool { return g.covers(n) }) {
			r.waiting[n] = true
		}
		r.last[m.Sensor] = m
		if m.Kind == message.Edge {
			r.edges[m.Sensor]++
			r.edge[m.Sensor] = m
			if n, ok := m.Field("changes").(int64); ok {
				r.changes[m.Sensor] += n
			}
		} else {
			r.count[m.Sensor]++
		}
	case message.Fault:
		subjects := []string{m.Sensor}
		if m.Sensor == "" && len(m.Fields) > 0 {
			subjects[0] = fmt.Sprint(m.Fields[0].Value)
		}
		raised, code := m.Field("state") == "raised", fmt.Sprint(m.Field("code"))
		of := subjects[0] + " " + code
		if upon, ok := m.Field("sensors").(string); ok {
			r.upon[of] = strings.Split(upon, ", ")
		}
		for _, subject := range append(subjects, r.upon[of]...) {
			key := subject + " " + code
			r.raised[key] = raised
			r.ever[key] = r.ever[key] || raised
		}
	case message.Answer:
		id, a := fmt.Sprint(m.Field("id")), answer{status: fmt.Sprint(m.Field("status"))}
		if reason, ok := m.Field("reason").(string); ok {
			a.reason = reason
		}
		if r.answers[id] == (answer{}) {
			r.answers[id] = a
		}
	}
}

// ack is told each record that the broker has acknowledged.
func (r *recorder) ack(m message.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.changedLocked()
	switch m.Kind {
	case message.Reading, message.Edge:
		n := number{m.Sensor, m.Run, m.Seq}
		r.acked[n] = true
		delete(r.waiting, n)
	case message.Gap:
		g := gap{Sensor: m.Sensor, Run: m.Run, Reason: fmt.Sprint(m.Field("reason"))}
		if v, ok := m.Field("after_seq").(int64); ok {
			g.After = v
		}
		if v, ok := m.Field("to_seq").(int64); ok {
			g.To = v
		}
		r.gaps = append(r.gaps, g)
		for n := range r.waiting {
			if g.covers(n) {
				delete(r.waiting, n)
			}
		}
	}
}

// saidLocked returns the codes of the faults of a subject that are raised, or of all subjects.
func (r *recorder) saidLocked(subject string) string {
	var codes []string
	for key, raised := range r.raised {
		if of, code := cutLast(key); raised && (of == subject || subject == "") {
			codes = append(codes, code)
		}
	}
	slices.Sort(codes)
	return strings.Join(slices.Compact(codes), ", ")
}

// cutLast splits the key of a raised fault. A subject may have spaces, a code has none.
func cutLast(key string) (subject, code string) {
	i := strings.LastIndexByte(key, ' ')
	return key[:i], key[i+1:]
}

// end is told that the daemon does not run any more, and why.
func (r *recorder) end(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.changedLocked()
	if r.ended = err; err == nil {
		r.ended = errStopped
	}
}

// errStopped is why a daemon that was stopped does not run.
var errStopped = errors.New("it was stopped")

// began is told that a daemon starts.
func (r *recorder) began() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = nil
}

// await waits until ok holds, at most for limit or until over is closed, and no longer than the
// daemon runs. ok is called with the lock held.
func (r *recorder) await(ctx context.Context, limit time.Duration, over <-chan struct{}, ok func() bool) bool {
	end := time.NewTimer(limit)
	defer end.Stop()
	for {
		r.mu.Lock()
		good, ended, changed := ok(), r.ended != nil, r.changed
		r.mu.Unlock()
		if good || ended {
			return good
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		case <-over:
			return false
		case <-end.C:
			return false
		}
	}
}

// delivered judges the first promise for the runs up to this one, after everything was given time:
// each reading taken was acknowledged or is in a gap, and no two have the same number. What a
// later run takes is on its way still, and is forgotten.
func (r *recorder) delivered(run uint64) Outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	later := func(n number, _ bool) bool { return n.Run > run }
	maps.DeleteFunc(r.taken, later)
	maps.DeleteFunc(r.waiting, later)
	lost, inGaps := slices.Collect(maps.Keys(r.waiting)), 0
	for n := range r.taken {
		if !r.acked[n] {
			inGaps++
		}
	}
	inGaps -= len(lost)
	o := Outcome{Promise: 1, Verdict: Held, Happened: fmt.Sprintf("%d readings taken, %d acknowledged, %d reported as lost", len(r.taken), len(r.taken)-inGaps-len(lost), inGaps)}
	if inGaps > 0 {
		reasons := map[string]bool{}
		for _, g := range r.gaps {
			reasons[g.Reason] = true
		}
		var names []string
		for name := range reasons {
			names = append(names, name)
		}
		slices.Sort(names)
		o.Why = fmt.Sprintf("lost readings were reported: %v", names)
	}
	switch {
	case len(r.taken) == 0:
		o.Verdict, o.Why = NotTried, "no sensor gave a reading"
	case len(lost) > 0:
		o.Verdict, o.Why = Broken, fmt.Sprintf("%d readings were lost silently, such as number %d of %s", len(lost), lost[0].Seq, lost[0].Sensor)
	case len(r.twice) > 0:
		n := r.twice[0]
		o.Verdict, o.Why = Broken, fmt.Sprintf("%d numbers were given to two readings each, such as number %d of %s in run %d: a receiver drops one of them", len(r.twice), n.Seq, n.Sensor, n.Run)
	}
	return o
}

// inHand returns the latest reading of each sensor. A daemon says that it takes a reading before
// its spool has it; only the sensor's next one shows that it has. So after a kill nobody knows of
// these whether they were recorded.
func (r *recorder) inHand() (latest []number) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for sensor, m := range r.last {
		latest = append(latest, number{sensor, m.Run, m.Seq})
	}
	return latest
}

// forgive forgets those of the readings that are neither acknowledged nor in a gap, and returns
// how many.
func (r *recorder) forgive(some []number) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range some {
		if r.waiting[k] {
			delete(r.waiting, k)
			delete(r.taken, k)
			n++
		}
	}
	return n
}
