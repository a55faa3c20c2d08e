package command

import (
	"slices"
	"time"

	"fieldpost/daemon/message"
	"fieldpost/daemon/output"
)

// contractLog records what happened under the contract: levels of the lines and answers.
type contractLog struct {
	acts    map[string]int // number of energising acts, by id
	first   map[string]time.Time
	answers map[string][]givenAnswer
	// arrived counts the answers that are safe from a crash.
	arrived    map[string]int
	count      int
	last       map[string]int          // by output: the index of the last order that acted in this process
	whose      *process                // the process of last
	level      map[string]output.Level // last level set on each line
	since      map[string]time.Time    // since when the line has that level
	hung       map[string]bool         // a call has hung since then
	lastOrders map[string]lastOrder    // the last energising order of each line
}

// lastOrder is a carried-out order.
type lastOrder struct {
	at     time.Time
	action output.Action
}

// givenAnswer is an answer and when it was given.
type givenAnswer struct {
	status Status
	reason Code
	at     time.Time
	sure   bool // a crash does not lose it
}

func newContractLog() contractLog {
	return contractLog{
		acts: map[string]int{}, first: map[string]time.Time{}, answers: map[string][]givenAnswer{}, arrived: map[string]int{}, last: map[string]int{},
		level: map[string]output.Level{}, since: map[string]time.Time{}, hung: map[string]bool{}, lastOrders: map[string]lastOrder{},
	}
}

// arrives records an order that is delivered to a process.
func (w *world) arrives(p *process, text []byte) {
	o, err := Decode(text, thing)
	if err != nil {
		w.t.Error(err)
	}
	w.logf("handed over %s", text)
	w.count++
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.index[o.ID]; !known {
		p.index[o.ID] = w.count
	}
	if _, known := w.first[o.ID]; !known {
		w.first[o.ID] = time.Now()
	}
}

// begins checks a call that sets a line. Call it with the world's mu held.
func (b *contractLog) begins(w *world, p *process, c output.Config, level output.Level, o output.Order, ordered bool, index int) {
	w.logf("%s is set to %s, order %q", c.Name, level, o.ID)
	if b.whose != p {
		b.whose = p
		clear(b.last)
	}
	safe, has := c.Safe.Level()
	if has && level == safe {
		if ordered && (w.expander == nil || !o.Action.Energises(c.Safe, o.Level)) { // otherwise it may have been found lost
			b.last[c.Name] = max(b.last[c.Name], index)
		}
		return
	}
	if !ordered && !has {
		return // the end of a pulse
	}
	if !ordered {
		w.t.Errorf("%s leaves its safe level without an order", c.Name)
		return
	}
	if b.acts[o.ID]++; b.acts[o.ID] > 1 {
		w.t.Errorf("order %s acted %d times", o.ID, b.acts[o.ID])
	}
	now := w.stamp()
	if !now.Synced && w.jumped.Before(b.first[o.ID]) && w.unsynced.Before(b.first[o.ID]) {
		w.t.Errorf("order %s acted while the clock was not true", o.ID)
	}
	if !time.Now().Before(o.Expires) {
		w.t.Errorf("order %s acted late", o.ID)
	}
	if said := b.answers[o.ID]; len(said) > 0 && !(w.bare && said[0].status == Refused) { // a refusal may be lost if both journals fail
		w.t.Errorf("order %s acted after it was answered %v", o.ID, said[0].status)
	}
	if !w.journal.has(o.ID) {
		w.t.Errorf("order %s acted before its intent was on disk", o.ID)
	}
	if index <= b.last[c.Name] && !p.again && !w.cramped { // a suppressed one may be sent again
		w.t.Errorf("order %s acted after one that came later", o.ID)
	}
	b.last[c.Name] = index
	b.bounds(w, c, level)
}

// bounds checks that an output may leave its safe level.
func (b *contractLog) bounds(w *world, c output.Config, level output.Level) {
	if d := time.Since(b.since[c.Name]); level == output.On && b.level[c.Name] == output.Off && d < c.MinOff && !b.hung[c.Name] {
		w.t.Errorf("%s was off for %v only", c.Name, d)
	}
	other := map[string]string{"pump": "valve", "valve": "pump"}[c.Name]
	if other != "" && b.level[other] != output.Off {
		w.t.Errorf("%s and %s are both away from safe", c.Name, other)
	}
}

// requested records that a line was requested.
func (w *world) requested(name string, level output.Level) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.logf("%s is requested, %s", name, level)
	w.level[name], w.since[name], w.hung[name] = level, time.Now(), w.expander != nil // it may have lost its power
	delete(w.leaving, name)
}

// moved checks the bounds of an output when its line changes.
func (b *contractLog) moved(w *world, c output.Config, level output.Level, o output.Order, ordered bool, hang time.Duration) {
	d := time.Since(b.since[c.Name])
	b.hung[c.Name] = b.hung[c.Name] || hang > 0
	leaves := w.leaving[c.Name] && level == output.Off // made safe by a reload, or by its last order
	if !leaves {
		b.refreshed(w, c, level, o, ordered)
	}
	if level == b.level[c.Name] {
		return
	}
	if level == output.Off && c.MaxOn > 0 && d > c.MaxOn+time.Second && !b.hung[c.Name] {
		w.t.Errorf("%s was on for %v", c.Name, d)
	}
	if level == output.Off && d < c.MinOn && ordered && !b.hung[c.Name] && !leaves {
		w.t.Errorf("%s was on for %v only", c.Name, d)
	}
	b.level[c.Name], b.since[c.Name], b.hung[c.Name] = level, time.Now(), hang > 0 || w.expander != nil && w.hanging != 0
}

// refreshed checks that an output with refresh is made safe when no order was carried out
// for it within that time, and not earlier.
func (b *contractLog) refreshed(w *world, c output.Config, level output.Level, o output.Order, ordered bool) {
	if c.Refresh == 0 {
		return
	}
	last := b.lastOrders[c.Name]
	switch d := time.Since(last.at); {
	case b.level[c.Name] == output.Off || b.hung[c.Name]:
	case d > c.Refresh:
		w.t.Errorf("%s was on for %v after the last order", c.Name, d)
	case !ordered && d < c.Refresh && last.action != output.ActionPulse:
		w.t.Errorf("%s was made safe %v after the last order", c.Name, d)
	}
	if ordered && level == output.On {
		b.lastOrders[c.Name] = lastOrder{time.Now(), o.Action}
	}
}

// hear records an answer and returns its order's id. Call it with the world's mu held.
func (b *contractLog) hear(w *world, r message.Record) (id string) {
	text := map[string]string{}
	for _, f := range r.Fields {
		text[f.Name], _ = f.Value.(string)
	}
	w.logf("answer %v", text)
	id = text["id"]
	b.answers[id] = append(b.answers[id], givenAnswer{Status(text["status"]), Code(text["reason"]), time.Now(), Code(text["reason"]) != Hangs})
	return id
}

// checkAnswers checks the answers against what was done: each order has one outcome,
// however often it was sent, and it is true.
func (w *world) checkAnswers() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, text := range w.sent {
		o, err := Decode(text, thing)
		if err != nil {
			w.t.Fatal(err)
		}
		all := w.answers[o.ID]
		if len(all) == 0 {
			// Without the runtime directory it was acknowledged first, so that it would
			// not act after its answer. Without room it was only counted.
			if !w.bare && !w.cramped {
				w.t.Errorf("order %s was never answered", o.ID)
			}
			continue
		}
		if w.arrived[o.ID] == 0 && !w.bare && !w.cramped && !slices.ContainsFunc(all, func(a givenAnswer) bool { return !a.sure }) {
			w.t.Errorf("all answers to order %s were lost: %v", o.ID, all)
		}
		a, acts := all[0], w.acts[o.ID]
		if a.status == Refused && acts != 0 && !w.bare && !w.unread && !(w.lied && w.short) {
			w.t.Errorf("order %s was refused and acted", o.ID)
		}
		wants := o.Action == output.ActionPulse || o.Action == output.ActionOn && o.Output != "lock" || o.Action == output.ActionOff && (o.Output == "lock" || o.Output == "fan")
		if a.status == Done && wants && acts != 1 {
			w.t.Errorf("order %s is done and acted %d times", o.ID, acts)
		}
		for _, again := range all {
			switch {
			case w.bare, a.reason == Hangs: // a result may be lost; an order that hung may be sent again
				continue
			case w.unread && (a.status == Refused || again.status == Refused): // the ledger was not known
				continue
			case (w.cramped || w.lied && w.short) && a.reason == UnknownOutput && !wants && o.Action != output.ActionToggle:
				continue // it was forgotten, and makes an output safe that a reload added again
			case w.cramped && a.status == Refused && again.status != Done: // it was evicted
				continue
			case w.lied && w.short && again.reason != "": // its answer was forgotten, but it does not act
				continue
			}
			if again.status != a.status || again.reason != a.reason {
				w.t.Errorf("order %s was answered %v and %v", o.ID, a, again)
			}
		}
	}
}
