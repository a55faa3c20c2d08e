package command

import (
	"strings"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/message"
	"fieldpost/sensors"
)

// Status is what became of an order.
type Status string

// The statuses.
const (
	Done    Status = "done"    // the line has its level
	Refused Status = "refused" // nothing was done
	Failed  Status = "failed"  // it was begun and did not succeed
	Unknown Status = "unknown" // it was begun, and its end is not recorded
)

// Answer is what became of an order, for who gave it.
type Answer struct {
	ID     string // the order's; "" where it had none that could be read
	Status Status
	Output string      // "" where the order named none
	State  string      // on or off, the output's level after it; "" where it was not looked at
	Reason Code        // why it is not done; "" when it is
	Hint   string      // what in particular, and what to do; "" when it is done
	Count  uint64      // of [NotAnswered], how many orders; else 0
	Stamp  clock.Stamp // when it was decided

	sure       bool // its order gets it again if that comes again, in a later boot too
	saved      bool // its order gets it again in a later run, until the next boot
	noWait     bool // so many are refused that nobody waits until the broker has it
	suppressed bool // it is counted, and not given
}

// Record is the answer as a message.
func (a Answer) Record() message.Record {
	var fields []sensors.Field
	for _, f := range []sensors.Field{
		{Name: "id", Value: a.ID},
		{Name: "status", Value: string(a.Status)},
		{Name: "output", Value: a.Output},
		{Name: "state", Value: a.State},
		{Name: "reason", Value: string(a.Reason)},
		{Name: "hint", Value: a.Hint},
	} {
		if f.Value != "" {
			fields = append(fields, f)
		}
	}
	if a.Count > 0 {
		fields = append(fields, sensors.Field{Name: "count", Value: int64(a.Count)})
	}
	return message.Record{Kind: message.Answer, Stamp: a.Stamp, Fields: fields}
}

// because makes an answer of a reason; detail says what in particular.
func answerFor(c Code, detail string) Answer {
	r := lookup(c)
	means := r.Means
	if detail != "" {
		means = strings.TrimSuffix(means, ".") + ": " + detail + "."
	}
	return Answer{Status: r.Status, Reason: c, Hint: means + " " + r.Do}
}
