// Package topic knows the rules of MQTT topic names and topic filters (MQTT 3.1.1,
// section 4.7) and the limits that AWS IoT Core adds to them.
package topic

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The limits of AWS IoT Core (page "AWS IoT Core message broker and protocol limits
// and quotas"). They hold for every broker, so that a configuration that works with
// one works with the other.
const (
	maxBytes   = 256
	maxSlashes = 7

	basicIngest = "$aws/rules/" // $aws/rules/NAME/ counts neither as bytes nor as slashes
)

// Check tells whether messages can be published to a topic. The error reads on after
// the topic or its key: "has 8 slashes, want at most 7".
func Check(topic string) error {
	counted := topic
	if rest, ok := strings.CutPrefix(topic, basicIngest); ok {
		_, counted, _ = strings.Cut(rest, "/")
	}
	switch slashes := strings.Count(counted, "/"); {
	case topic == "":
		return errors.New("is empty")
	case strings.ContainsAny(topic, "+#"):
		return errors.New("has a wildcard, want one topic without + and #")
	case strings.HasPrefix(topic, sharePrefix):
		return errors.New("is a shared subscription, want a topic: nothing can be published to one, and its messages go to any one of its members")
	case !utf8.ValidString(topic):
		return errors.New("is not valid UTF-8")
	case strings.ContainsFunc(topic, unicode.IsControl):
		return errors.New("has control characters")
	case len(counted) > maxBytes:
		return fmt.Errorf("is %d bytes long, want at most %d", len(counted), maxBytes)
	case slashes > maxSlashes:
		return fmt.Errorf("has %d slashes, want at most %d", slashes, maxSlashes)
	}
	return nil
}
