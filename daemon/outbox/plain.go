package outbox

import (
	"cmp"

	"fieldpost/daemon/message"
	"fieldpost/daemon/records"
	"fieldpost/daemon/uplink"
)

// Where {quantity} stands in readings.topic, a reading goes as plain values: a message
// for each of its quantities, to a topic of its own, "21.53" to
// home/greenhouse/air/temperature. All else stays JSON. The record is acknowledged when
// all of its values are; what ends the connection before has all of them sent again.
//
// A value's id is the record's with the value's place, from 1, in the uppermost byte,
// which the spool does not use. So it is the same when it is sent again.
const (
	partShift  = 56
	mostValues = 1<<(64-partShift) - 1
)

// split makes the publications of a record's values, which Next then gives.
func (o *Outbox) split(item records.Item) {
	r := item.Record()
	switch n := len(r.Fields); {
	case n == 0:
		o.done(item.ID) // nothing is told by it
		return
	case n > mostValues:
		o.Spool.Refuse(item.ID, "has more than 255 values")
		delete(o.out, item.ID)
		return
	}
	thing := cmp.Or(r.Source.Thing, o.Config.Thing)
	o.parts[item.ID] = len(r.Fields)
	for i, f := range r.Fields {
		o.values = append(o.values, uplink.Publication{
			ID: item.ID | uint64(i+1)<<partShift, Topic: o.valueTopic(thing, r.Sensor, f.Name), Payload: message.Plain(f.Value),
		})
	}
}

// part reports whether an id is of a value, and not of a whole record.
func (o *Outbox) part(id uint64) bool { return id>>partShift != 0 }

// joined takes note of a value that is acknowledged. It gives the id of its record,
// and whether it was the last of it.
func (o *Outbox) joined(part uint64) (id uint64, last bool) {
	id = part &^ (mostValues << partShift)
	n, known := o.parts[id]
	if !known {
		return id, false // one of its values was refused, and so the record was
	}
	if n > 1 {
		o.parts[id] = n - 1
		return id, false
	}
	delete(o.parts, id)
	return id, true
}

// abandon gives up a record of which a value was refused. What of it is not yet sent
// is not sent. known is false if it was given up before.
func (o *Outbox) abandon(part uint64) (id uint64, known bool) {
	id = part &^ (mostValues << partShift)
	_, known = o.parts[id]
	delete(o.parts, id)
	for len(o.values) > 0 && o.values[0].ID&^(mostValues<<partShift) == id {
		o.values = o.values[1:]
	}
	return id, known
}
