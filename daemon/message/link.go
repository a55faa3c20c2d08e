package message

import (
	"fieldpost/daemon/clock"
	"fieldpost/sensors"
)

// Online returns the record for a new connection. version is the program's.
func Online(run uint64, at clock.Stamp, from Source, version string) Record {
	return status(run, at, from, "online", sensors.Field{Name: "version", Value: version})
}

// Why the daemon says itself that it goes offline.
const (
	ReasonStop   = "stop"   // it was told to stop
	ReasonFailed = "failed" // a part of it ended by itself or panicked
)

// Farewell returns the record for an end in order: offline, with a time and a reason.
func Farewell(run uint64, at clock.Stamp, from Source, reason string) Record {
	return status(run, at, from, "offline", sensors.Field{Name: "reason", Value: reason})
}

func status(run uint64, at clock.Stamp, from Source, state string, more sensors.Field) Record {
	fields := []sensors.Field{{Name: "state", Value: state}, more}
	return Record{Kind: Status, Run: run, Stamp: at, Fields: fields, Source: from}
}

// Will returns the record that the broker publishes when it loses us. It is made when we
// connect, so it has neither time nor run.
func Will() Record {
	return Record{Kind: Status, Fields: []sensors.Field{{Name: "state", Value: "offline"}, {Name: "reason", Value: "lost"}}}
}
