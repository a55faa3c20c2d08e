// Package message has what the daemon tells: the kinds of messages, the record that
// a message is until it is sent, and its two forms. [AppendBody] and [DecodeBody] are
// the bytes in which the spool keeps what it need not know of a record; [Encode] is
// the JSON that goes to the broker.
package message

import (
	"fieldpost/daemon/clock"
	"fieldpost/sensors"
)

// Kind is what sort of message a record becomes.
type Kind string

// The kinds. A reading's message carries no kind, every other one's does.
const (
	Reading Kind = "reading" // a sensor's values, polled
	Edge    Kind = "edge"    // a sensor's line changed; on the wire it is a reading too
	Answer  Kind = "answer"  // what became of an order
	Fault   Kind = "fault"   // something broke, or works again
	Gap     Kind = "gap"     // readings that were or may have been lost
	Event   Kind = "event"   // an output changed for a reason of its own
	Status  Kind = "status"  // the daemon is online or offline
)

// Sample reports whether records of this kind are in the log of samples. Edges
// are in one of their own, and all others in the log of events, which go first.
func (k Kind) Sample() bool { return k == Reading }

// Record is one message in structured form; it is encoded only when sent,
// because what is known of its time may still improve.
type Record struct {
	Kind   Kind
	Sensor string          // the sensor's name; "" where it concerns none
	Run    uint64          // the daemon's run that took it; 0 with Seq 0
	Seq    uint64          // the sensor's own count in that run, from 1; 0 for all but readings and edges
	Stamp  clock.Stamp     // when it happened
	Fields []sensors.Field // the rest, in the order of the message
	Source Source          // who took it; the spool knows it
}

// Source says who took a record: every message carries it as it was then,
// whatever the configuration says when the message is sent.
type Source struct {
	Thing string // the thing's name in the configuration of that run
	Spool string // the id of that run's spool; "" where the run was one of a version that had none
}

// Field gives the value of a field, or nil.
func (r Record) Field(name string) any {
	for _, f := range r.Fields {
		if f.Name == name {
			return f.Value
		}
	}
	return nil
}
