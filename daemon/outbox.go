package daemon

import (
	"sync"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/config"
	"fieldpost/daemon/spool"
	"fieldpost/daemon/uplink"
)

// itself stands for {sensor} in the topic of messages that concern no sensor
// and no output: the link's faults, online and offline. The configuration
// keeps the name free.
const itself = "fieldpost"

// outbox gives the uplink the spool's records as mail: only here is a record
// encoded and given its topic.
type outbox struct {
	spool *spool.Spool
	cfg   *config.Config
	clock clock.Clock // knows the time better, it may be, than when a record was taken
	// acked is told each record that the broker has acknowledged; may be nil.
	acked func(spool.Record)

	mu  sync.Mutex
	out map[uint64]spool.Record // handed to the uplink, for acked; nil without it
}

func newOutbox(s *spool.Spool, cfg *config.Config, c clock.Clock, acked func(spool.Record)) *outbox {
	o := &outbox{spool: s, cfg: cfg, clock: c, acked: acked}
	if acked != nil {
		o.out = map[uint64]spool.Record{}
	}
	return o
}

// Rewind implements [uplink.Outbox].
func (o *outbox) Rewind() { o.spool.Rewind() }

// Ready implements [uplink.Outbox].
func (o *outbox) Ready() <-chan struct{} { return o.spool.Ready() }

// Next implements [uplink.Outbox].
func (o *outbox) Next() (uplink.Mail, bool) {
	item, ok := o.spool.Next()
	if !ok {
		return uplink.Mail{}, false
	}
	item.Record.Stamp = clock.Fill(item.Record.Stamp, o.clock.Now())
	if o.out != nil {
		o.mu.Lock()
		o.out[item.ID] = item.Record
		o.mu.Unlock()
	}
	return uplink.Mail{ID: item.ID, Topic: topic(o.cfg, item.Record), Payload: spool.Encode(o.cfg.Thing, item.Record)}, true
}

// Ack implements [uplink.Outbox].
func (o *outbox) Ack(id uint64) {
	o.spool.Ack(id)
	if r, ok := o.take(id); ok {
		o.acked(r)
	}
}

// Refuse implements [uplink.Outbox].
func (o *outbox) Refuse(id uint64, reason string) {
	o.spool.Refuse(id, reason)
	o.take(id)
}

func (o *outbox) take(id uint64) (spool.Record, bool) {
	if o.out == nil {
		return spool.Record{}, false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	r, ok := o.out[id]
	delete(o.out, id)
	return r, ok
}

// topic says where a record goes: answers and the events of outputs to the
// answers' topic, everything else to the readings'.
func topic(cfg *config.Config, r spool.Record) string {
	if r.Kind == spool.Answer || r.Kind == spool.Event {
		if t := cfg.AnswersTopic(); t != "" {
			return t
		}
	}
	name := r.Sensor
	if name == "" {
		name = itself
	}
	return cfg.ReadingsTopic(name)
}
