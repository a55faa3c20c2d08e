package uplink

import "strings"

// Matches reports whether a topic is one that a topic filter asks for (MQTT
// 3.1.1, section 4.7): + stands for one level, # for any number of them and for
// the level above it, and neither at the start for a level that begins with $.
// Of a shared subscription, $share/NAME/FILTER (MQTT 5, section 4.8.2; brokers
// have it with 3.1.1 too), it is FILTER that counts. Any goroutine.
func Matches(filter, topic string) bool {
	if rest, shared := strings.CutPrefix(filter, "$share/"); shared {
		_, filter, _ = strings.Cut(rest, "/")
	}
	if strings.HasPrefix(topic, "$") && !strings.HasPrefix(filter, "$") {
		return false
	}
	for {
		want, filters, more := strings.Cut(filter, "/")
		level, topics, deeper := strings.Cut(topic, "/")
		switch {
		case want == "#":
			return true
		case want != "+" && want != level:
			return false
		case !more:
			return !deeper
		case !deeper:
			return filters == "#"
		}
		filter, topic = filters, topics
	}
}
