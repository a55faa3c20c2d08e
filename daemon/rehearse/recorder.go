package rehearse

import (
	"context"
	"fmt"
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

// recorder keeps what a daemon took and what the broker acknowledged, and judges by the
// sequence numbers. Its methods may be called from any goroutine.
type recorder struct {
	mu      sync.Mutex
	changed chan struct{} // closed at each change
	taken   map[number]bool
	acked   map[number]bool
	gaps    []gap
	last    map[string]message.Record // the latest reading or edge of each sensor
	count   map[string]int            // readings by sensor
	edges   map[string]int
	raised  map[string]bool     // faults raised now, as "subject code"
	ever    map[string]bool     // faults that were raised
	answers map[string][]string // status of each order's answers, by id
}

func newRecorder() *recorder {
	return &recorder{
		changed: make(chan struct{}), taken: map[number]bool{}, acked: map[number]bool{}, last: map[string]message.Record{}, count: map[string]int{}, edges: map[string]int{},
		raised: map[string]bool{}, ever: map[string]bool{}, answers: map[string][]string{},
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
		r.taken[number{m.Sensor, m.Run, m.Seq}] = true
		r.last[m.Sensor] = m
		if m.Kind == message.Edge {
			r.edges[m.Sensor]++
		} else {
			r.count[m.Sensor]++
		}
	case message.Fault:
		subjects := []string{m.Sensor}
		if m.Sensor == "" && len(m.Fields) > 0 {
			subjects[0] = fmt.Sprint(m.Fields[0].Value)
		}
		if upon, ok := m.Field("sensors").(string); ok {
			subjects = append(subjects, strings.Split(upon, ", ")...)
		}
		raised := m.Field("state") == "raised"
		for _, subject := range subjects {
			key := fmt.Sprintf("%s %v", subject, m.Field("code"))
			r.raised[key] = raised
			r.ever[key] = r.ever[key] || raised
		}
	case message.Answer:
		id := fmt.Sprint(m.Field("id"))
		r.answers[id] = append(r.answers[id], fmt.Sprint(m.Field("status")))
	}
}

// ack is told each record that the broker has acknowledged.
func (r *recorder) ack(m message.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.changedLocked()
	switch m.Kind {
	case message.Reading, message.Edge:
		r.acked[number{m.Sensor, m.Run, m.Seq}] = true
	case message.Gap:
		g := gap{Sensor: m.Sensor, Run: m.Run, Reason: fmt.Sprint(m.Field("reason"))}
		if v, ok := m.Field("after_seq").(int64); ok {
			g.After = v
		}
		if v, ok := m.Field("to_seq").(int64); ok {
			g.To = v
		}
		r.gaps = append(r.gaps, g)
	}
}

// missing returns the readings taken that are neither acknowledged nor in a gap. The caller
// holds the lock.
func (r *recorder) missingLocked() (missing []number) {
	for n := range r.taken {
		if !r.acked[n] && !slices.ContainsFunc(r.gaps, func(g gap) bool { return g.covers(n) }) {
			missing = append(missing, n)
		}
	}
	return missing
}

// await waits until ok holds, at most for limit. ok is called with the lock held.
func (r *recorder) await(ctx context.Context, limit time.Duration, ok func() bool) bool {
	end := time.NewTimer(limit)
	defer end.Stop()
	for {
		r.mu.Lock()
		good, changed := ok(), r.changed
		r.mu.Unlock()
		if good {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		case <-end.C:
			return false
		}
	}
}

// delivered judges the first promise for the runs up to this one, after everything was given time:
// each reading taken was acknowledged or is in a gap. What a later run takes is on its way still,
// and is forgotten.
func (r *recorder) delivered(run uint64) Outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k := range r.taken {
		if k.Run > run {
			delete(r.taken, k)
		}
	}
	lost, inGaps := r.missingLocked(), 0
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
	for _, k := range r.missingLocked() {
		if slices.Contains(some, k) {
			delete(r.taken, k)
			n++
		}
	}
	return n
}
