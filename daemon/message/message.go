// Package message defines the daemon's messages: their kinds, the [Record] that a message is
// until it is sent, and its two forms. [AppendBody] and [DecodeBody] are its form on disk;
// [Encode] makes the JSON that goes to the broker.
package message

import (
	"fieldpost/daemon/clock"
	"fieldpost/sensors"
)

// Kind is the kind of message that a record becomes.
type Kind string

// The kinds. The messages of a Reading and an Edge have no kind; all others have.
const (
	Reading Kind = "reading" // a sensor's values, polled
	Edge    Kind = "edge"    // a change of an input; published as a reading
	Answer  Kind = "answer"  // the answer to an order
	Fault   Kind = "fault"   // something failed, or works again
	Gap     Kind = "gap"     // readings that were or may have been lost
	Event   Kind = "event"   // an output changed its level
	Status  Kind = "status"  // the daemon is online or offline
)

// Sample reports whether records of this kind are in the spool's log of samples. Edges have
// a log of their own, and all others are in the log of events, which are sent first.
func (k Kind) Sample() bool { return k == Reading }

// Record is one message in structured form. It is encoded only when it is sent, because its
// time may still be corrected.
type Record struct {
	Kind   Kind
	Sensor string          // the sensor's name; "" if it is about none
	Run    uint64          // the run of the daemon that recorded it; 0 with Seq 0
	Seq    uint64          // the sensor's sequence number in that run, from 1; 0 for all but readings and edges
	Stamp  clock.Stamp     // when it happened
	Fields []sensors.Field // the rest, in the order of the message
	Source Source          // who recorded it; the spool fills it in
}

// Source says who recorded a record. A message carries it as it was then, whatever the
// configuration says when the message is sent.
type Source struct {
	Thing string // the thing's name in the configuration of that run
	Spool string // the id of that run's spool; "" for a run of a version without ids
}

// Field returns the value of a field, or nil.
func (r Record) Field(name string) any {
	for _, f := range r.Fields {
		if f.Name == name {
			return f.Value
		}
	}
	return nil
}
