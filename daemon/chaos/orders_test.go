//go:build chaos && linux

package chaos

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// sentOrder is one order, and what came of it.
type sentOrder struct {
	id, output, action string
	lasts              string // its "for"
	thing, topic       string // to whom, and where
	stray              bool   // not for the daemon: to another topic than its own, or another board
	energises          bool
	retained           bool // it was only ever there as a retained copy
	strange            bool // retained, and the broker may have kept it for the daemon besides
	expires            time.Time
	payload            []byte
	sent               time.Duration // first
	posted             time.Duration // when the broker last took it; 0 while it has not

	acts    int
	reply   *reply   // the latest answer
	replies []string // the statuses of all that differ
	given   []*reply // those
	answers int      // of all
	copies  int      // answers to retained copies
	over    bool     // its giver is done with it

	spoken   bool   // the daemon has given an answer into its spool
	givenUp  bool   // which may have given it up, and told so
	counted  bool   // it may only have been counted, in a flood of orders [CMD-19]
	repeated bool   // it is being sent again
	shaky    bool   // and the ledger could not be relied on meanwhile
	window   string // where the daemon was killed over it
	killed   bool   // the daemon was, before the first answer
	stopped  bool   // so was it in order
	weak     bool   // the ledger could not be relied on at some time before the first answer
	failed   bool   // the ledger could not be relied on at some time before an answer that counts
	unsynced bool   // nor the clock be known to be true
	stepped  bool   // nor be right
}

// reply is an answer.
type reply struct {
	ID, Status, Output, State, Reason, Time, Clock, Thing, Kind, Hint string
}

// at gives when the daemon says it was; ok is false where it did not know.
func (a *reply) at() (t time.Time, ok bool) {
	t, err := time.Parse(time.RFC3339, a.Time)
	return t, err == nil && a.Clock == ""
}

// same reports whether two answers are one, told twice. late says that it may
// have been given while the clock was not known to be true.
func (a *reply) same(b *reply, late bool) bool {
	x, y := *a, *b
	x.Thing, y.Thing = "", "" // it may be called otherwise meanwhile
	if late || x.Clock != y.Clock || x.Reason == "clock_unsynced" {
		x.Time, y.Time, x.Clock, y.Clock = "", "", "", "" // filled in when it is sent, by the clock as it is then
	}
	return x == y
}

// open reports whether the order may yet be decided on.
func (e *sentOrder) open() bool { return e.reply == nil }

// String names the order and what came of it.
func (e *sentOrder) String() string {
	s := fmt.Sprintf("%s (%s, expires %v, sent %v, posted %v) acted %d times, answered %v", e.payload, e.action, e.expires, e.sent, e.posted, e.acts, e.replies)
	if e.reply != nil {
		s += fmt.Sprintf(", last %+v", *e.reply)
	}
	return s + fmt.Sprintf("; repeated %v, cut short %q, killed %v, stopped %v, ledger failed %v, clock unsynced %v or stepped %v", e.repeated, e.window, e.killed, e.stopped, e.weak, e.unsynced, e.stepped)
}

// standing is the level that a line was given last.
type standing struct {
	how string // "requested", "set", or "held" while no daemon runs
	on  bool
}

// orders are the books about them.
type orders struct {
	sent    map[string]*sentOrder
	current map[string]*sentOrder // by line: the latest
	levels  map[string]standing
	acts    map[string][]*actuation  // by line: of which it is not known yet whose they are
	proofs  map[string]time.Duration // by output: when the latest order that was done was sent
	eager   bool                     // orders are wanted at once
	proving bool                     // orders that must be done are wanted
	last    int                      // the number in the latest id

	thing, topic string          // the daemon's name, and its topic of orders
	things       map[string]bool // all that it was called
	addressed    time.Duration   // since when they are that
}

func newOrders() orders {
	return orders{sent: map[string]*sentOrder{}, current: map[string]*sentOrder{}, levels: map[string]standing{}, acts: map[string][]*actuation{}, proofs: map[string]time.Duration{}, things: map[string]bool{}}
}

// begin enters an order that is about to be sent.
func (b *books) begin(e *sentOrder) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last++
	e.id = fmt.Sprintf("c-%06d", b.last)
	e.sent = b.now()
	e.action, e.lasts, _ = strings.Cut(e.action, " ")
	e.energises = e.action != "off"
	b.compose(e)
	b.sent[e.id] = e
	if e.stray {
		b.count["orders sent that are not for the daemon"]++
		return
	}
	b.current[lines[e.output]] = e
	b.count["orders sent: "+e.action]++
	b.mark()
}

// compose addresses an order to the daemon as it is called now, and to the topic
// that it listens to now.
func (b *books) compose(e *sentOrder) {
	if !e.stray {
		e.thing, e.topic = b.thing, b.topic
	}
	fields := map[string]string{"id": e.id, "output": e.output, "action": e.action, "expires": e.expires.UTC().Format(time.RFC3339Nano)}
	if e.thing != "" {
		fields["thing"] = e.thing
	}
	if e.lasts != "" {
		fields["for"] = e.lasts
	}
	e.payload, _ = json.Marshal(fields) // strings always encode
}

// address notes what the next run is called and to which topic it listens. What
// was sent to the old is for nobody now, and the broker keeps nothing on a new
// topic until the daemon has subscribed to it.
func (b *books) address(thing, topic string) {
	if topic != b.topic || thing != b.thing {
		b.subscribed, b.addressed = 0, b.now()
	}
	b.thing, b.topic, b.things[thing] = thing, topic, true
	b.wakeLocked()
}

// mark notes what is amiss with every order that has no answer yet.
func (b *books) mark() {
	for _, e := range b.current {
		e.shaky = e.shaky || b.weakFrom != 0
		e.counted = e.counted || b.flood
		if e.reply == nil {
			e.weak = e.weak || b.weakFrom != 0
		}
		e.failed = e.failed || e.weak || e.open() && e.shaky
		if e.open() {
			e.unsynced = e.unsynced || !b.dial.synced || !b.before.synced
			e.stepped = e.stepped || b.dial.off != 0 || b.before.off != 0
		}
	}
}

// interrupt notes that the daemon is being ended.
func (b *books) interrupt(killed bool) {
	for _, e := range b.current {
		if e.reply == nil && e.energises && !e.retained && killed {
			b.count["orders under way at a kill"]++
		}
		if e.open() {
			e.killed, e.stopped = e.killed || killed, e.stopped || !killed
		}
	}
}

// givenUp notes that the spool has told that it gave up messages, and so maybe
// answers. The ledger has them, so the same order sent again is answered.
func (b *books) givenUp() {
	for _, e := range b.current {
		e.givenUp = e.givenUp || e.spoken
		e.spoken = false
	}
}

// answer takes in an answer that arrived.
func (b *books) answer(payload string) {
	var a reply
	if err := json.Unmarshal([]byte(payload), &a); err != nil {
		b.complain("arrived: %q: %v", payload, err)
		return
	}
	if strings.HasPrefix(a.ID, floodPrefix) || a.ID == "" && a.Status == "refused" {
		b.count["answers to floods: "+a.Status+" "+a.Reason]++
		if a.Status != "refused" {
			b.complain("what was sent in a flood was answered %s", payload)
		}
		return
	}
	e := b.sent[a.ID]
	if e == nil {
		b.complain("answer to nobody: %s", payload)
		return
	}
	if a.Reason == "retained" && e.output == siren {
		e.copies++
		b.count["answers: refused retained"]++
		return
	}
	if e.stray || !b.things[a.Thing] {
		b.complain("order %s (stray %v) was answered %+v", e.id, e.stray, a)
		return
	}
	e.answers++
	switch {
	case e.reply == nil:
		e.replies = append(e.replies, a.Status)
		b.count[strings.TrimSpace("answers: "+a.Status+" "+a.Reason)]++
	case slices.ContainsFunc(e.given, func(b *reply) bool { return a.same(b, e.unsynced) }): // a mail that was not acknowledged may come again at any time
		b.count["answers given again"]++
		return
	case e.repeated && e.shaky && (a.Reason == "no_ledger" || !e.energises && a.Status == "done"):
		b.tolerate("orders of the past that came while the ledger could not be read", 0)
		return
	default: // package command: what was answered holds, also where the ledger could not be written
		b.complain("order %s was answered %+v besides: %v", e.id, a, e)
	}
	e.reply, e.given = &a, append(e.given, &a)
}
