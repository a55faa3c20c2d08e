package outbox

import (
	"cmp"

	"fieldpost/daemon/message"
	"fieldpost/daemon/records"
	"fieldpost/daemon/uplink"
)

// If readings.topic contains {quantity}, readings are sent as plain values: one message per
// quantity, to a topic of its own, such as "21.53" to home/greenhouse/air/temperature.
// Everything else stays JSON. The record is acknowledged when all of its values are. If the
// connection ends before, all of them are sent again.
//
// The id of a value is the id of its record, with the value's index, counted from 1, in the
// highest byte, which the spool does not use. So a value has the same id when it is sent
// again.
const (
	partShift  = 56
	mostValues = 1<<(64-partShift) - 1
)

// split makes the publications of a record's values. Next then returns them.
func (o *Outbox) split(item records.Item) {
	r := item.Record()
	switch n := len(r.Fields); {
	case n == 0:
		o.done(item.ID) // there is nothing to send
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

// part reports whether id is the id of a value, not of a whole record.
func (o *Outbox) part(id uint64) bool { return id>>partShift != 0 }

// joined counts a value as acknowledged. It returns the id of its record, and whether it was
// the record's last value.
func (o *Outbox) joined(part uint64) (id uint64, last bool) {
	id = part &^ (mostValues << partShift)
	n, known := o.parts[id]
	if !known {
		return id, false // another of its values was refused, and with it the record
	}
	if n > 1 {
		o.parts[id] = n - 1
		return id, false
	}
	delete(o.parts, id)
	return id, true
}

// abandon gives up a record because one of its values was refused. Values that are not sent
// yet will not be sent. known is false if the record was given up before.
func (o *Outbox) abandon(part uint64) (id uint64, known bool) {
	id = part &^ (mostValues << partShift)
	_, known = o.parts[id]
	delete(o.parts, id)
	for len(o.values) > 0 && o.values[0].ID&^(mostValues<<partShift) == id {
		o.values = o.values[1:]
	}
	return id, known
}
