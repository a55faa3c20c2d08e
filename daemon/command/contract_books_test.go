package command

import (
	"slices"
	"time"

	"fieldpost/daemon/message"
	"fieldpost/daemon/output"
)

// contractBooks is what was seen of the contract: acts on the wires and answers.
type contractBooks struct {
	acts    map[string]int // energising ones, by id
	first   map[string]time.Time
	answers map[string][]givenAnswer
	// arrived counts the answers that no death of a process can cost any more.
	arrived    map[string]int
	count      int
	last       map[string]int          // by output: the index of the order that acted last, in this life
	whose      *process                // whose index that is
	level      map[string]output.Level // of each line, as it was set last
	since      map[string]time.Time    // since when it has that
	hung       map[string]bool         // it hung since then
	lastOrders map[string]lastOrder    // the last order that left each line away from its safe level
}

// lastOrder is an order that was carried out.
type lastOrder struct {
	at     time.Time
	action output.Action
}

// givenAnswer is an answer and when it was given.
type givenAnswer struct {
	status Status
	reason Code
	at     time.Time
	sure   bool // a death does not cost it
}

func newContractBooks() contractBooks {
	return contractBooks{
		acts: map[string]int{}, first: map[string]time.Time{}, answers: map[string][]givenAnswer{}, arrived: map[string]int{}, last: map[string]int{},
		level: map[string]output.Level{}, since: map[string]time.Time{}, hung: map[string]bool{}, lastOrders: map[string]lastOrder{},
	}
}

// arrives notes an order that is handed to a process.
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

// begins checks a call that moves a line. With the world's mu held.
func (b *contractBooks) begins(w *world, p *process, c output.Config, level output.Level, o output.Order, ordered bool, index int) {
	w.logf("%s is set to %s, order %q", c.Name, level, o.ID)
	if b.whose != p {
		b.whose = p
		clear(b.last)
	}
	safe, has := c.Safe.Level()
	if has && level == safe {
		if ordered {
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
	if said := b.answers[o.ID]; len(said) > 0 && !(w.bare && said[0].status == Refused) { // a refusal may be lost with both disks
		w.t.Errorf("order %s acted after it was answered %v", o.ID, said[0].status)
	}
	if !w.journal.has(o.ID) {
		w.t.Errorf("order %s acted before its intent was on disk", o.ID)
	}
	if index <= b.last[c.Name] && !p.again && !w.cramped { // one that was only counted may be sent again
		w.t.Errorf("order %s acted after one that came later", o.ID)
	}
	b.last[c.Name] = index
	b.bounds(w, c, level)
}

// bounds checks that an output may leave its safe level.
func (b *contractBooks) bounds(w *world, c output.Config, level output.Level) {
	if d := time.Since(b.since[c.Name]); level == output.On && b.level[c.Name] == output.Off && d < c.MinOff && !b.hung[c.Name] {
		w.t.Errorf("%s was off for %v only", c.Name, d)
	}
	other := map[string]string{"pump": "valve", "valve": "pump"}[c.Name]
	if other != "" && b.level[other] != output.Off {
		w.t.Errorf("%s and %s are both away from safe", c.Name, other)
	}
}

// requested notes that a line was requested.
func (w *world) requested(name string, level output.Level) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.logf("%s is requested, %s", name, level)
	w.level[name], w.since[name], w.hung[name] = level, time.Now(), false
	delete(w.leaving, name)
}

// moved checks the bounds of an output when its line moves.
func (b *contractBooks) moved(w *world, c output.Config, level output.Level, o output.Order, ordered bool, hang time.Duration) {
	d := time.Since(b.since[c.Name])
	b.hung[c.Name] = b.hung[c.Name] || hang > 0
	leaves := w.leaving[c.Name] && level == output.Off // made safe by a reload, or by a last order
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
	b.level[c.Name], b.since[c.Name], b.hung[c.Name] = level, time.Now(), hang > 0
}

// refreshed checks that an output with refresh is made safe when no order was
// carried out for it for so long, and not before.
func (b *contractBooks) refreshed(w *world, c output.Config, level output.Level, o output.Order, ordered bool) {
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

// hear notes an answer and gives its order's id. With the world's mu held.
func (b *contractBooks) hear(w *world, r message.Record) (id string) {
	text := map[string]string{}
	for _, f := range r.Fields {
		text[f.Name], _ = f.Value.(string)
	}
	w.logf("answer %v", text)
	id = text["id"]
	b.answers[id] = append(b.answers[id], givenAnswer{Status(text["status"]), Code(text["reason"]), time.Now(), Code(text["reason"]) != Hangs})
	return id
}

// judge checks the answers against what was done: one verdict for each order,
// however often it was sent, and one that is true.
func (w *world) judge() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, text := range w.sent {
		o, err := Decode(text, thing)
		if err != nil {
			w.t.Fatal(err)
		}
		all := w.answers[o.ID]
		if len(all) == 0 {
			// Without the runtime directory it was acknowledged, so that it would not act
			// after it was answered; without room it was only counted.
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
			case w.bare, a.reason == Hangs: // a result may be lost; one that hung may be tried again
				continue
			case w.unread && (a.status == Refused || again.status == Refused): // nobody knew better
				continue
			case (w.cramped || w.lied && w.short) && a.reason == UnknownOutput && !wants && o.Action != output.ActionToggle:
				continue // forgotten, it makes safe an output that a reload has brought back
			case w.cramped && a.status == Refused && again.status != Done: // it gave way to others
				continue
			case w.lied && w.short && again.reason != "": // its answer is forgotten: it does not act
				continue
			}
			if again.status != a.status || again.reason != a.reason {
				w.t.Errorf("order %s was answered %v and %v", o.ID, a, again)
			}
		}
	}
}
