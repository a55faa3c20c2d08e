package command

import (
	"hash/maphash"

	"fieldpost/daemon/uplink"
)

// maxStray is the number of topics with a warning. Only a hash of each topic is kept.
const maxStray = 64

// strays holds the topics for which a warning was logged. Only the goroutine of
// [Dispatcher.Serve] uses it.
type strays struct {
	seed maphash.Seed
	seen map[uint64]bool
}

// first reports whether a topic is seen for the first time, and whether it is the first
// one without room.
func (s *strays) first(topic string) (first, full bool) {
	if s.seen == nil {
		s.seed, s.seen = maphash.MakeSeed(), map[uint64]bool{}
	}
	h := maphash.String(s.seed, topic)
	if s.seen[h] || len(s.seen) > maxStray {
		return false, false
	}
	s.seen[h] = true
	return true, len(s.seen) > maxStray
}

// isStray reports whether a message came on another topic than that of orders, and counts
// it. A persistent session keeps the subscriptions of earlier configurations. Their
// messages may be for another board, or for this one in another place. [CMD-18]
func (d *Dispatcher) isStray(m uplink.Message) bool {
	if d.settings.Load().Topic != "" && m.Topic == d.settings.Load().Topic {
		return false
	}
	d.countStats(func(s *Stats) { s.Elsewhere++ })
	switch first, full := d.strays.first(m.Topic); {
	case full:
		d.o.Log.Warn("messages come on many topics that are not for orders; not naming more of them")
	case first && d.settings.Load().Topic == "":
		d.o.Log.Warn("message ignored: this configuration takes no orders over MQTT", "topic", shorten(m.Topic), "bytes", max(m.Size, len(m.Payload)))
	case first:
		d.o.Log.Warn("message ignored: it did not come on the topic of orders", "topic", shorten(m.Topic), "want", d.settings.Load().Topic, "bytes", max(m.Size, len(m.Payload)))
	}
	return true
}

// shorten limits a topic for the log to the longest one that a configuration may have.
func shorten(topic string) string {
	const most = 256
	if len(topic) <= most {
		return topic
	}
	return topic[:most] + "..."
}
