package uplink

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// What AWS IoT Core takes (page "AWS IoT Core message broker and protocol
// limits and quotas"). It holds for every broker, so that a configuration that
// works with one works with the other.
const (
	maxPayload = 128 << 10
	maxTopic   = 256
	maxSlashes = 7

	basicIngest = "$aws/rules/" // its first three levels count neither as bytes nor as slashes
)

// unsendable says why a mail can never be sent; "" when it can.
func unsendable(m Publication) string {
	if len(m.Payload) > maxPayload {
		return fmt.Sprintf("payload of %d bytes, more than %d", len(m.Payload), maxPayload)
	}
	return badTopic(m.Topic)
}

// badTopic says why nothing can be published to a topic; "" when it can.
func badTopic(topic string) string {
	counted := topic
	if rest, ok := strings.CutPrefix(topic, basicIngest); ok {
		if _, after, ok := strings.Cut(rest, "/"); ok {
			counted = after
		}
	}
	switch {
	case topic == "":
		return "no topic"
	case strings.ContainsAny(topic, "+#"):
		return fmt.Sprintf("topic %q has a wildcard", topic)
	case !utf8.ValidString(topic) || strings.ContainsRune(topic, 0):
		return fmt.Sprintf("topic %q is not valid UTF-8 without NUL", topic)
	case len(counted) > maxTopic:
		return fmt.Sprintf("topic of %d bytes, more than %d", len(counted), maxTopic)
	case strings.Count(counted, "/") > maxSlashes:
		return fmt.Sprintf("topic %q has more than %d slashes", topic, maxSlashes)
	}
	return ""
}

// badFilter says what is wrong with a topic filter (MQTT 3.1.1, section 4.7.1);
// "" when nothing is.
func badFilter(filter string) string {
	if filter == "" {
		return "is empty"
	}
	if len(filter) > 0xffff || !utf8.ValidString(filter) || strings.ContainsRune(filter, 0) {
		return "is not valid UTF-8 without NUL, of at most 65535 bytes"
	}
	levels := strings.Split(filter, "/")
	for i, level := range levels {
		if strings.Contains(level, "#") && (level != "#" || i != len(levels)-1) {
			return "may have # only as its last level"
		}
		if strings.Contains(level, "+") && level != "+" {
			return "may have + only as a whole level"
		}
	}
	return ""
}
