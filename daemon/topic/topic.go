// Package topic knows the rules of MQTT topic names and topic filters (MQTT 3.1.1,
// section 4.7) and the limits that AWS IoT Core adds to them.
package topic

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"fieldpost/daemon/awsiot"
)

// basicIngest begins a topic of Basic Ingest: $aws/rules/NAME/ counts neither as bytes
// nor as slashes.
const basicIngest = "$aws/rules/"

// Check reports whether messages can be published to a topic. The error reads on after
// the topic or its key: "has 8 slashes, want at most 7". The limits of AWS IoT Core
// hold for every broker, so that a configuration that works with one works with the
// other.
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
	case len(counted) > awsiot.TopicMax:
		return fmt.Errorf("is %d bytes long, want at most %d", len(counted), awsiot.TopicMax)
	case slashes > awsiot.TopicSlashes:
		return fmt.Errorf("has %d slashes, want at most %d", slashes, awsiot.TopicSlashes)
	}
	return nil
}
