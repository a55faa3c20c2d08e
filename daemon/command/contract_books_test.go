package command

import (
	"time"

	"fieldpost/daemon/output"
	"fieldpost/daemon/spool"
)

// books is what was seen of the contract: acts on the wires and answers.
type books struct {
	acts  map[string]int // energising ones, by id
	first map[string]time.Time
	said  map[string][]saying
	count int
	last  map[string]int // by output: the index of the order that acted last, in this life
	whose *life          // whose index that is
	on    map[string]time.Time
	hung  map[string]bool // the line hung since it was on
}

// saying is an answer and when it was given.
type saying struct {
	status Status
	reason Code
	at     time.Time
}

func newBooks() books {
	return books{
		acts: map[string]int{}, first: map[string]time.Time{}, said: map[string][]saying{}, last: map[string]int{},
		on: map[string]time.Time{}, hung: map[string]bool{},
	}
}

// arrives notes an order that is handed to a process.
func (w *world) arrives(l *life, text []byte) {
	o, err := Decode(text, thing)
	if err != nil {
		w.t.Error(err)
	}
	w.note("handed over %s", text)
	w.count++
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.index[o.ID]; !known {
		l.index[o.ID] = w.count
	}
	if _, known := w.first[o.ID]; !known {
		w.first[o.ID] = time.Now()
	}
}

// begins checks a call that moves a line. With the world's mu held.
func (b *books) begins(w *world, l *life, c output.Config, level output.Level, o output.Order, ordered bool, index int) {
	w.note("%s is set to %s, order %q", c.Name, level, o.ID)
	if b.whose != l {
		b.whose = l
		clear(b.last)
	}
	if level == c.Safe {
		if ordered {
			b.last[c.Name] = max(b.last[c.Name], index)
		}
		return
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
	if said := b.said[o.ID]; len(said) > 0 && !(w.faulty && said[0].status == Refused) { // a refusal may be lost with the disk
		w.t.Errorf("order %s acted after it was answered %v", o.ID, said[0].status)
	}
	if !w.p.has(o.ID) {
		w.t.Errorf("order %s acted before its intent was on disk", o.ID)
	}
	if index <= b.last[c.Name] && !l.again {
		w.t.Errorf("order %s acted after one that came later", o.ID)
	}
	b.last[c.Name] = index
}

// requested notes that a line was requested.
func (w *world) requested(name string, active bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("%s is requested, on %v", name, active)
	delete(w.on, name)
	delete(w.hung, name)
}

// moved checks the bounds of an output when its line has moved.
func (b *books) moved(w *world, c output.Config, level output.Level, hang time.Duration) {
	since, on := b.on[c.Name]
	b.hung[c.Name] = b.hung[c.Name] || hang > 0
	switch {
	case c.MaxOn == 0:
	case level == output.On && !on:
		b.on[c.Name], b.hung[c.Name] = time.Now(), hang > 0
	case level == output.Off && on:
		if d := time.Since(since); d > c.MaxOn+time.Second && !b.hung[c.Name] {
			w.t.Errorf("%s was on for %v", c.Name, d)
		}
		delete(b.on, c.Name)
	}
}

// hear notes an answer. With the world's mu held.
func (b *books) hear(w *world, r spool.Record) {
	text := map[string]string{}
	for _, f := range r.Fields {
		text[f.Name], _ = f.Value.(string)
	}
	w.note("answer %v", text)
	id := text["id"]
	b.said[id] = append(b.said[id], saying{Status(text["status"]), Code(text["reason"]), time.Now()})
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
		all := w.said[o.ID]
		if len(all) == 0 {
			w.t.Errorf("order %s was never answered", o.ID)
			continue
		}
		a, acts := all[0], w.acts[o.ID]
		if a.status == Refused && acts != 0 && !w.faulty {
			w.t.Errorf("order %s was refused and acted", o.ID)
		}
		wants := o.Action == output.ActionPulse || o.Action == output.ActionOn && o.Output != "lock" || o.Action == output.ActionOff && o.Output == "lock"
		if a.status == Done && wants && acts != 1 {
			w.t.Errorf("order %s is done and acted %d times", o.ID, acts)
		}
		for _, again := range all {
			if w.faulty || a.reason == Hangs { // a result may be lost; one that hung may be tried again
				break
			}
			if again.status != a.status || again.reason != a.reason {
				w.t.Errorf("order %s was answered %v and %v", o.ID, a, again)
			}
		}
	}
}
