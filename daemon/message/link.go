package message

import (
	"fieldpost/daemon/clock"
	"fieldpost/sensors"
)

// Online returns the record for a new connection. version is the program's.
func Online(run uint64, at clock.Stamp, from Source, version string) Record {
	return status(run, at, from, "online", sensors.Field{Name: "version", Value: version})
}

// Farewell returns the record for a clean end: offline, with a time and a reason.
func Farewell(run uint64, at clock.Stamp, from Source) Record {
	return status(run, at, from, "offline", sensors.Field{Name: "reason", Value: "stop"})
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
