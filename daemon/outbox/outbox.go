// Package outbox makes MQTT messages of the spool's records: it encodes each record, gives it
// a topic, groups readings into batches if the configuration asks for that, and reports to
// the spool what the broker has acknowledged.
package outbox

import (
	"cmp"
	"strings"
	"sync/atomic"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/config"
	"fieldpost/daemon/message"
	"fieldpost/daemon/records"
	"fieldpost/daemon/uplink"
)

// Options are the settings of an outbox.
type Options struct {
	Spool  *records.Spool
	Config *config.Config // the topics and batches; see [Outbox.Reconfigure]
	Clock  clock.Clock    // may know by now the time of a record that was taken without it
	Boots  *clock.Boots   // the same for records of earlier boots; may be nil
	// Acked is called with each record that the broker has acknowledged, on the uplink's
	// goroutine. It must not block; may be nil.
	Acked func(message.Record)
}

// Outbox gives the uplink the spool's records as messages. Only Outbox encodes records and
// chooses their topics.
//
// With batches in the configuration, every message that carries readings is a JSON array.
// Samples wait for others of their topic as long as the configuration allows; a backlog is
// sent in full arrays. Edges are readings too and sent in arrays, but they do not wait: an
// array has only those that are already there. Every other record is a message of its own.
// The spool decides which record is next; see [records.Spool.Next].
//
// A message has the id of its first record. So a message that begins with the same record
// after a rewind has the same id, and the uplink can recognise a message on which the broker
// hangs up.
//
// Only the uplink's goroutine may call the methods, except Reconfigure.
type Outbox struct {
	Options
	next     atomic.Pointer[config.Config] // a new configuration to use; nil if there is none
	outdated bool                          // the open batches are of the old configuration

	out map[uint64]message.Record // sent and not acknowledged, for Acked; empty if Acked is nil

	topics map[[3]string]string // cache of topics, by thing, sensor and quantity or kind

	values []uplink.Publication // of a record that is sent as plain values, still to be returned by Next
	parts  map[uint64]int       // by record: how many of its values are not acknowledged

	open     map[string]*batch   // batches of samples, by topic
	size     int                 // bytes in open
	sent     map[uint64][]uint64 // records of each message in flight with more than one
	alone    map[uint64]bool     // records that must be sent alone, because a message with them was refused; see mostAlone
	ahead    *encoded            // taken from the spool but not used yet
	flushing bool                // batches do not wait any longer
}

// mostAlone bounds the records in alone. Without a bound, those that the spool drops would
// stay there for ever.
const mostAlone = 4096

// clockAge bounds the age of the clock's state with which times are corrected.
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
	o.Clock = clock.NewBurst(o.Clock, clockAge) // only the uplink's goroutine uses it
	return &Outbox{
		Options: o, out: map[uint64]message.Record{},
		topics: map[[3]string]string{}, parts: map[uint64]int{}, open: map[string]*batch{}, sent: map[uint64][]uint64{}, alone: map[uint64]bool{},
	}
}

// Reconfigure uses the topics and batches of another configuration for the same thing. It
// does not wait. Batches that are being filled are sent at once to their old topic. Every
// later message uses the new configuration, also for records that were already in the spool.
// Any goroutine.
func (o *Outbox) Reconfigure(cfg *config.Config) {
	o.next.Store(cfg)
	o.Spool.SetLinger(cfg.Readings.Linger)
	o.Spool.Wake()
}

// adopt starts to use the configuration that Reconfigure has stored, if there is one.
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
			o.ahead = &ahead // first the records before it
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

// nextRecord takes the next record from ahead or from the spool.
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

// encode gives a record its topic and its payload, with a corrected time if there is one now.
func (o *Outbox) encode(item records.Item) encoded {
	if r := &item.Head; !r.Stamp.Synced { // otherwise the time is already true
		r.Stamp = o.Boots.Fill(r.Stamp, o.Clock.Now())
	}
	if o.Acked != nil {
		o.out[item.ID] = item.Record()
	}
	return encoded{item, o.topic(item.Head), item.Message(o.Config.Thing)}
}

// edgeBatch makes a message of an edge, of further edges of the same sensor that are waiting,
// and of edges to the same topic that are next in the spool.
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

// nextFor takes the next record that may be added to a batch.
func (o *Outbox) nextFor(b *batch) (encoded, bool) {
	if item, ok := o.Spool.More(b.ids[len(b.ids)-1]); ok {
		return o.encode(item), true
	}
	return o.nextRecord()
}

// addSample adds a sample to its topic's batch. It returns a batch that must be sent now, or
// nil.
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
	case full != nil: // b has only one record
		return full
	case len(b.ids) >= o.Config.Readings.Batch.Max:
		return o.closeBatch(b)
	case o.size > openBytes:
		return o.closeBatch(o.earliestDue())
	}
	return nil
}

// dueAt returns when the batch of a record is due. A record that was taken long ago, or
// before this boot, has waited enough.
func (o *Outbox) dueAt(taken clock.Stamp) time.Time {
	now := o.Clock.Now()
	if taken.Boot != now.Boot {
		return time.Now()
	}
	return time.Now().Add(o.Config.Readings.Batch.Within - max(0, now.Mono-taken.Mono))
}

// dueBatch returns the batch that is due first, if it is due now.
func (o *Outbox) dueBatch() (uplink.Publication, bool) {
	b := o.earliestDue()
	if b == nil || !o.flushing && time.Now().Before(b.due) {
		return uplink.Publication{}, false
	}
	return o.publication(o.closeBatch(b)), true
}

// earliestDue returns the open batch that is due first.
func (o *Outbox) earliestDue() (first *batch) {
	for _, b := range o.open {
		if first == nil || b.due.Before(first.due) || b.due.Equal(first.due) && b.ids[0] < first.ids[0] {
			first = b
		}
	}
	return first
}

// closeBatch removes a batch from the open ones.
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

// takeIDs returns the ids of a message's records and removes the message from sent.
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

// done reports to the spool and to Acked that the broker has a record.
func (o *Outbox) done(id uint64) {
	o.Spool.Ack(id)
	delete(o.alone, id)
	if r, ok := o.out[id]; ok {
		delete(o.out, id)
		o.Acked(r)
	}
}

// Refuse implements [uplink.Outbox]. If the message has several records, any of them may be
// the cause, so each is sent alone after the next rewind.
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
		clear(o.alone) // a record that is refused again is added again
	}
	for _, id := range ids {
		o.alone[id] = true
	}
}

// topic returns the topic of a record, with the name of the thing that took it. Answers and
// events of outputs go to the answers' topic, everything else to the readings' topic.
func (o *Outbox) topic(r message.Record) string {
	thing := cmp.Or(r.Source.Thing, o.Config.Thing)
	if r.Kind == message.Answer || r.Kind == message.Event {
		if t := o.Config.AnswersTopicOf(thing); t != "" {
			return t
		}
	}
	return o.valueTopic(thing, r.Sensor, string(r.Kind))
}

// valueTopic is [config.Config.ValueTopic] with a cache, which a topic without placeholders does not
// need.
func (o *Outbox) valueTopic(thing, sensor, quantity string) string {
	if t := o.Config.Readings.Topic; strings.IndexByte(t, '{') < 0 {
		return t
	}
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
