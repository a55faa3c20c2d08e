package message

import (
	"fieldpost/daemon/clock"
	"fieldpost/sensors"
)

// Loss is what a gap reports: that a sensor's readings with the numbers First to Last, or
// Count messages without such numbers, were or may have been lost.
type Loss struct {
	Reason    string
	First     uint64 // from 1; 0 if Count is set
	Last      uint64 // 0 if the end is unknown
	Uncertain bool   // the messages may have arrived after all
	Count     int64
}

// NewGap returns the record for a loss. Its fields are after_seq, to_seq (absent if the end
// is unknown), reason, count (instead of after_seq and to_seq), and certain (false, or
// absent).
func NewGap(sensor string, run uint64, at clock.Stamp, from Source, x Loss) Record {
	r := Record{Kind: Gap, Sensor: sensor, Run: run, Stamp: at, Source: from}
	add := func(name string, value any) { r.Fields = append(r.Fields, sensors.Field{Name: name, Value: value}) }
	if x.First > 0 {
		add("after_seq", int64(x.First-1))
		if x.Last > 0 {
			add("to_seq", int64(x.Last))
		}
	}
	add("reason", x.Reason)
	if x.Count > 0 {
		add("count", x.Count)
	}
	if x.Uncertain {
		add("certain", false)
	}
	return r
}
