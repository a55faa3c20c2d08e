package topic

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// sharePrefix begins a shared subscription: $share/NAME/FILTER (MQTT 5, section
// 4.8.2; brokers have it with 3.1.1 too).
const sharePrefix = "$share/"

// CheckFilter reports whether a topic filter is valid (MQTT 3.1.1, section 4.7.1). The
// error reads on after the filter: "is empty".
func CheckFilter(filter string) error {
	if filter == "" {
		return errors.New("is empty")
	}
	if len(filter) > 0xffff || !utf8.ValidString(filter) || strings.ContainsRune(filter, 0) {
		return errors.New("is not valid UTF-8 without NUL, of at most 65535 bytes")
	}
	levels := strings.Split(filter, "/")
	for i, level := range levels {
		if strings.Contains(level, "#") && (level != "#" || i != len(levels)-1) {
			return errors.New("may have # only as its last level")
		}
		if strings.Contains(level, "+") && level != "+" {
			return errors.New("may have + only as a whole level")
		}
	}
	return nil
}

// Matches reports whether a topic filter matches a topic (MQTT 3.1.1, section 4.7).
// + matches one level. # matches any number of levels and the level above it. At the
// start of the filter neither matches a level that begins with $. Of a shared
// subscription only the filter in it counts.
func Matches(filter, topic string) bool {
	if rest, shared := strings.CutPrefix(filter, sharePrefix); shared {
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
