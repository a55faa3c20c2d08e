// Package outbox makes MQTT messages of the spool's records: it encodes each, gives
// it its topic, puts readings together in batches where the configuration asks for
// that, and tells the spool what the broker has acknowledged.
package outbox

import (
	"cmp"
	"sync/atomic"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/config"
	"fieldpost/daemon/message"
	"fieldpost/daemon/records"
	"fieldpost/daemon/uplink"
)

// Options is what an outbox is built from.
type Options struct {
	Spool  *records.Spool
	Config *config.Config // the topics and batches; see [Outbox.Reconfigure]
	Clock  clock.Clock    // knows the time better, it may be, than when a record was taken
	Boots  *clock.Boots   // knows it of records of earlier boots; may be nil
	// Acked is told each record that the broker has acknowledged, on the uplink's
	// goroutine; may be nil. It must not block.
	Acked func(message.Record)
}

// Outbox gives the uplink the spool's records as messages. It encodes each record and
// gives it its topic; nothing else does.
//
// With batches in the configuration, every message that carries readings is a JSON
// array. Samples wait for others of their topic, as long as the configuration allows;
// a backlog goes out in full arrays. Edges are readings too, so they are arrays, but
// they do not wait: only those that are there already go together. Every other record
// is a message of its own. The spool decides what goes next; see [records.Spool.Next].
//
// A message has the id of its first record. A message that begins with the same record
// after a rewind has the same id again, so the uplink recognises one on which the
// broker hangs up.
//
// Only the uplink's goroutine may call its methods, but for Reconfigure.
type Outbox struct {
	Options
	next     atomic.Pointer[config.Config] // to take the place of Config; nil is none
	outdated bool                          // the open batches are of the configuration before

	out map[uint64]message.Record // sent and not acknowledged, for acked

	topics map[[3]string]string // of readings, by thing, sensor and quantity or kind

	values []uplink.Publication // of a record that goes as plain values, yet to be given
	parts  map[uint64]int       // how many values of a record are not yet acknowledged

	open     map[string]*batch   // by topic, of samples
	size     int                 // bytes in open
	sent     map[uint64][]uint64 // the records of each message in flight that has more than one
	alone    map[uint64]bool     // records that go alone, as a message with them was refused; see mostAlone
	ahead    *encoded            // taken from the spool and not yet dealt with
	flushing bool                // nothing waits any more
}

// mostAlone bounds the records that go alone. Those that the spool drops would be
// remembered for ever otherwise.
const mostAlone = 4096

// clockAge is how old the state of the clock may be by which times are corrected.
const clockAge = 10 * time.Millisecond

// encoded is a record with its topic and its payload.
type encoded struct {
	item    records.Item
	topic   string
	payload []byte
}

// New makes an outbox.
func New(o Options) *Outbox {
	o.Spool.SetLinger(o.Config.Readings.Linger)
	o.Clock = clock.NewBurst(o.Clock, clockAge) // all methods but Reconfigure are one goroutine's
	return &Outbox{
		Options: o, out: map[uint64]message.Record{},
		topics: map[[3]string]string{}, parts: map[uint64]int{}, open: map[string]*batch{}, sent: map[uint64][]uint64{}, alone: map[uint64]bool{},
	}
}

// Reconfigure gives messages the topics and batches of another configuration, of the
// same thing. It does not wait. Batches that are being filled go at once, to the topic
// that they were begun for; all that is handed out afterwards goes by the new one,
// also what has waited in the spool. Any goroutine.
func (o *Outbox) Reconfigure(cfg *config.Config) {
	o.next.Store(cfg)
	o.Spool.SetLinger(cfg.Readings.Linger)
	o.Spool.Wake()
}

// adopt begins to go by the configuration that has come, if one has.
func (o *Outbox) adopt() {
	cfg := o.next.Swap(nil)
	if cfg == nil {
		return
	}
	o.Config, o.outdated = cfg, true
	clear(o.topics)
	if l := o.ahead; l != nil {
		again := o.encode(l.item)
		o.ahead = &again
	}
}

// Rewind implements [uplink.Outbox].
func (o *Outbox) Rewind() {
	o.adopt()
	clear(o.open)
	clear(o.sent)
	clear(o.out)
	clear(o.parts)
	o.values = nil
	o.size, o.ahead, o.flushing = 0, nil, false
	o.Spool.Rewind()
}

// Ready implements [uplink.Outbox].
func (o *Outbox) Ready() <-chan struct{} { return o.Spool.Ready() }

// Next implements [uplink.Outbox].
func (o *Outbox) Next() (uplink.Publication, bool) {
	o.adopt()
	if o.outdated {
		if b := o.earliestDue(); b != nil {
			return o.publication(o.closeBatch(b)), true
		}
		o.outdated = false
	}
	for {
		if len(o.values) > 0 {
			m := o.values[0]
			o.values = o.values[1:]
			return m, true
		}
		if b := o.longestOpen(); b != nil {
			return o.publication(o.closeBatch(b)), true
		}
		l, ok := o.nextRecord()
		if !ok {
			return o.dueBatch()
		}
		kind, id := l.item.Head.Kind, l.item.ID
		reading := kind == message.Reading || kind == message.Edge
		switch {
		case reading && o.Config.Readings.Plain():
			o.split(l.item)
			continue
		case o.Config.Readings.Batch.Max == 0 || !reading:
			return uplink.Publication{ID: id, Topic: l.topic, Payload: l.payload, Urgent: kind == message.Answer}, true
		case o.alone[id] && o.open[l.topic] != nil:
			ahead := l       // l itself stays on the stack
			o.ahead = &ahead // after those that came before it
			return o.publication(o.closeBatch(o.open[l.topic])), true
		case o.alone[id]:
			return o.publication(newBatch(l)), true
		case kind == message.Edge:
			return o.edgeBatch(l), true
		}
		if full := o.addSample(l); full != nil {
			return o.publication(full), true
		}
	}
}

// Due implements [uplink.Batcher].
func (o *Outbox) Due() time.Time {
	b := o.earliestDue()
	switch {
	case b == nil:
		return time.Time{}
	case o.flushing:
		return time.Now()
	}
	return b.due
}

// Flush implements [uplink.Batcher].
func (o *Outbox) Flush() { o.flushing = true }

// nextRecord takes the next record.
func (o *Outbox) nextRecord() (encoded, bool) {
	if l := o.ahead; l != nil {
		o.ahead = nil
		return *l, true
	}
	item, ok := o.Spool.Next()
	if !ok {
		return encoded{}, false
	}
	return o.encode(item), true
}

// encode gives a record its topic and its payload.
func (o *Outbox) encode(item records.Item) encoded {
	if r := &item.Head; !r.Stamp.Synced { // else the clock need not be asked
		r.Stamp = o.Boots.Fill(r.Stamp, o.Clock.Now())
	}
	if o.Acked != nil {
		o.out[item.ID] = item.Record()
	}
	return encoded{item, o.topic(item.Head), item.Message(o.Config.Thing)}
}

// edgeBatch makes a message of an edge, of those of the same sensor that wait, and of
// those to the same topic whose turn is next.
func (o *Outbox) edgeBatch(l encoded) uplink.Publication {
	b := newBatch(l)
	for len(b.ids) < o.Config.Readings.Batch.Max {
		next, ok := o.nextFor(b)
		if !ok {
			break
		}
		if next.item.Head.Kind != message.Edge || next.topic != b.topic || o.alone[next.item.ID] || !b.fits(next) {
			o.ahead = &next
			break
		}
		b.add(next)
	}
	return o.publication(b)
}

// nextFor takes a record that may go with a batch.
func (o *Outbox) nextFor(b *batch) (encoded, bool) {
	if item, ok := o.Spool.More(b.ids[len(b.ids)-1]); ok {
		return o.encode(item), true
	}
	return o.nextRecord()
}

// addSample puts a sample into its topic's batch. It gives a batch that is to go
// now, or nil.
func (o *Outbox) addSample(l encoded) (full *batch) {
	b := o.open[l.topic]
	if b != nil && !b.fits(l) {
		full = o.closeBatch(b)
		b = nil
	}
	before := 0
	if b == nil {
		b = newBatch(l)
		b.due = o.dueAt(l.item.Head.Stamp)
		o.open[l.topic] = b
	} else {
		before = len(b.json)
		b.add(l)
	}
	o.size += len(b.json) - before
	switch {
	case full != nil: // and b has but one
		return full
	case len(b.ids) >= o.Config.Readings.Batch.Max:
		return o.closeBatch(b)
	case o.size > openBytes:
		return o.closeBatch(o.earliestDue())
	}
	return nil
}

// dueAt says how long a record may wait: what was taken long ago has waited
// enough, and so has what was taken before this boot.
func (o *Outbox) dueAt(taken clock.Stamp) time.Time {
	now := o.Clock.Now()
	if taken.Boot != now.Boot {
		return time.Now()
	}
	return time.Now().Add(o.Config.Readings.Batch.Within - max(0, now.Mono-taken.Mono))
}

// dueBatch gives the batch that has waited longest, if it is to wait no more.
func (o *Outbox) dueBatch() (uplink.Publication, bool) {
	b := o.earliestDue()
	if b == nil || !o.flushing && time.Now().Before(b.due) {
		return uplink.Publication{}, false
	}
	return o.publication(o.closeBatch(b)), true
}

// earliestDue gives the open batch that is due first.
func (o *Outbox) earliestDue() (first *batch) {
	for _, b := range o.open {
		if first == nil || b.due.Before(first.due) || b.due.Equal(first.due) && b.ids[0] < first.ids[0] {
			first = b
		}
	}
	return first
}

// closeBatch takes a batch out of those that are open.
func (o *Outbox) closeBatch(b *batch) *batch {
	delete(o.open, b.topic)
	o.size -= len(b.json)
	return b
}

// publication makes a message of a batch.
func (o *Outbox) publication(b *batch) uplink.Publication {
	if len(b.ids) > 1 {
		o.sent[b.ids[0]] = b.ids
	}
	return uplink.Publication{ID: b.ids[0], Topic: b.topic, Payload: append(b.json, ']')}
}

// takeIDs gives the ids of a message's records, and forgets the message.
func (o *Outbox) takeIDs(id uint64) []uint64 {
	ids := o.sent[id]
	delete(o.sent, id)
	if ids == nil {
		ids = []uint64{id}
	}
	return ids
}

// Hold implements [uplink.Outbox].
func (o *Outbox) Hold(id uint64) {
	if o.part(id) {
		return // the record is not acknowledged until all of its values are
	}
	for _, id := range o.takeIDs(id) {
		delete(o.out, id)
	}
}

// Ack implements [uplink.Outbox].
func (o *Outbox) Ack(id uint64) {
	if o.part(id) {
		var last bool
		if id, last = o.joined(id); !last {
			return
		}
	}
	for _, id := range o.takeIDs(id) {
		o.done(id)
	}
}

// done tells the spool and whoever waits for it that the broker has a record.
func (o *Outbox) done(id uint64) {
	o.Spool.Ack(id)
	delete(o.alone, id)
	if r, ok := o.out[id]; ok {
		delete(o.out, id)
		o.Acked(r)
	}
}

// Refuse implements [uplink.Outbox]. Of several records one may be at fault
// for all: each goes alone after the next rewind.
func (o *Outbox) Refuse(id uint64, reason string) {
	if o.part(id) {
		var known bool
		if id, known = o.abandon(id); !known {
			return
		}
	}
	ids := o.takeIDs(id)
	for _, id := range ids {
		delete(o.out, id)
	}
	if len(ids) == 1 {
		o.Spool.Refuse(id, reason)
		delete(o.alone, id)
		return
	}
	if len(o.alone)+len(ids) > mostAlone {
		clear(o.alone) // what is still there and is refused again comes back in here
	}
	for _, id := range ids {
		o.alone[id] = true
	}
}

// topic says where a record goes: answers and the events of outputs to the
// answers' topic, everything else to the readings'; with the name of the thing
// that took it.
func (o *Outbox) topic(r message.Record) string {
	thing := cmp.Or(r.Source.Thing, o.Config.Thing)
	if r.Kind == message.Answer || r.Kind == message.Event {
		if t := o.Config.AnswersTopicOf(thing); t != "" {
			return t
		}
	}
	return o.valueTopic(thing, r.Sensor, string(r.Kind))
}

// valueTopic is [config.Config.ValueTopic], made once for each.
func (o *Outbox) valueTopic(thing, sensor, quantity string) string {
	if !o.Config.Readings.Plain() {
		quantity = ""
	}
	key := [3]string{thing, sensor, quantity}
	t, known := o.topics[key]
	if !known {
		t = o.Config.ValueTopic(thing, sensor, quantity)
		o.topics[key] = t
	}
	return t
}
