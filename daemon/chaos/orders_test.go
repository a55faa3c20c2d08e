//go:build chaos && linux

package chaos

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// sentOrder is an order and its outcome.
type sentOrder struct {
	id, output, action string
	lasts              string // its "for"
	thing, topic       string // the thing and the topic that it was sent to
	stray              bool   // not for the daemon: on another topic, or for another thing
	energises          bool
	retained           bool // it was only sent as a retained message
	page               bool // sent on the page, which has it expire by the board's clock
	strange            bool // retained, and the broker may also have delivered it to the daemon's session
	expires            time.Time
	payload            []byte
	sent               time.Duration // first
	posted             time.Duration // when the broker last accepted it; 0 if it has not

	acts    int
	reply   *reply   // the latest answer
	replies []string // the statuses of all different answers
	given   []*reply // all different answers
	answers int      // of all
	copies  int      // answers to retained copies
	over    bool     // its sender has finished with it

	spoken   bool   // the daemon has put an answer into its spool
	givenUp  bool   // the spool may have dropped the answer, and has reported that
	counted  bool   // it may only have been counted, in a flood [CMD-19]
	repeated bool   // it is being sent again
	shaky    bool   // and the ledger was unreliable meanwhile
	window   string // where the daemon was killed during it
	killed   bool   // the daemon was killed before the first answer
	stopped  bool   // the daemon was stopped before the first answer
	weak     bool   // the ledger was unreliable at some time before the first answer
	failed   bool   // the ledger was unreliable at some time before an answer that counts
	unsynced bool   // the clock was not synchronised at some time
	stepped  bool   // the clock was wrong at some time
}

// reply is an answer.
type reply struct {
	ID, Status, Output, State, Reason, Time, Clock, Thing, Kind, Hint string
}

// at returns the answer's time; ok is false if the daemon did not know it.
func (a *reply) at() (t time.Time, ok bool) {
	t, err := time.Parse(time.RFC3339, a.Time)
	return t, err == nil && a.Clock == ""
}

// same reports whether two answers are the same one, given twice. late says that it may
// have been given while the clock was not synchronised, or on the page, which gives no time.
func (a *reply) same(b *reply, late bool) bool {
	x, y := *a, *b
	x.Thing, y.Thing = "", "" // the daemon may have been renamed
	if late || x.Clock != y.Clock || x.Reason == "clock_unsynced" {
		x.Time, y.Time, x.Clock, y.Clock = "", "", "", "" // filled in when the answer is sent
		if x.Reason == "expired" {
			x.Hint, y.Hint = "", "" // it has the time; a refusal is forgotten when the order has expired, and given anew
		}
	}
	return x == y
}

// open reports whether the order has no answer yet.
func (e *sentOrder) open() bool { return e.reply == nil }

// String describes the order and its outcome.
func (e *sentOrder) String() string {
	s := fmt.Sprintf("%s (%s, expires %v, sent %v, posted %v) acted %d times, answered %v", e.payload, e.action, e.expires, e.sent, e.posted, e.acts, e.replies)
	if e.reply != nil {
		s += fmt.Sprintf(", last %+v", *e.reply)
	}
	return s + fmt.Sprintf("; repeated %v, cut short %q, killed %v, stopped %v, ledger failed %v, clock unsynced %v or stepped %v", e.repeated, e.window, e.killed, e.stopped, e.weak, e.unsynced, e.stepped)
}

// lineState is the last level of a line.
type lineState struct {
	how string // "requested", "set", or "held" while no daemon runs
	on  bool
}

// orders is the checker's state of orders.
type orders struct {
	sent    map[string]*sentOrder
	current map[string]*sentOrder // by line: the latest
	levels  map[string]lineState
	acts    map[string][]*actuation  // by line: acts that are not assigned to an order yet
	proofs  map[string]time.Duration // by output: when the latest carried-out order was sent
	eager   bool                     // send orders at once
	proving bool                     // send orders that must be carried out
	last    int                      // the number in the latest id

	thing, topic string          // the daemon's name, and its topic of orders
	page         string          // the address of its page
	things       map[string]bool // all its names
	addressed    time.Duration   // since when these apply
}

func newOrders() orders {
	return orders{sent: map[string]*sentOrder{}, current: map[string]*sentOrder{}, levels: map[string]lineState{}, acts: map[string][]*actuation{}, proofs: map[string]time.Duration{}, things: map[string]bool{}}
}

// begin records an order that is about to be sent.
func (b *checker) begin(e *sentOrder) {
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

// compose addresses an order to the daemon's present thing and topic.
func (b *checker) compose(e *sentOrder) {
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

// address records the thing and the topic of the next run. Orders to the old ones are for
// nobody now, and the broker keeps none on a new topic before the daemon has subscribed.
func (b *checker) address(thing, topic string) {
	if topic != b.topic || thing != b.thing {
		b.subscribed, b.addressed = 0, b.now()
	}
	b.thing, b.topic, b.things[thing] = thing, topic, true
	b.wakeLocked()
}

// mark records the present faults with every order that has no answer yet.
func (b *checker) mark() {
	b.wasOff = b.wasOff || b.dial.off != 0 || b.before.off != 0
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

// interrupt records that the daemon is being ended.
func (b *checker) interrupt(killed bool) {
	for _, e := range b.current {
		if e.reply == nil && e.energises && !e.retained && killed {
			b.count["orders under way at a kill"]++
		}
		if e.open() {
			e.killed, e.stopped = e.killed || killed, e.stopped || !killed
		}
	}
}

// givenUp records that the spool reported dropped messages, perhaps answers. The ledger
// has the answers, so a repeated order is answered.
func (b *checker) givenUp() {
	for _, e := range b.current {
		e.givenUp = e.givenUp || e.spoken
		e.spoken = false
	}
}

// answer handles an answer that arrived.
func (b *checker) answer(payload string) {
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
		b.complain("answer to an unknown order: %s", payload)
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
	case slices.ContainsFunc(e.given, func(b *reply) bool { return a.same(b, e.unsynced || e.page) }): // an unacknowledged message may come again at any time
		b.count["answers given again"]++
		return
	case e.repeated && e.shaky && (a.Reason == "no_ledger" || !e.energises && a.Status == "done"):
		b.tolerate("repeated orders that came while the ledger could not be read", 0)
		return
	default: // an answer is final, even if the ledger could not be written; see package command
		b.complain("order %s was answered %+v besides: %v", e.id, a, e)
	}
	e.reply, e.given = &a, append(e.given, &a)
}
