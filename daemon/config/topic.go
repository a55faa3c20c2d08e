package config

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// ReadingsTopic gives the topic of a sensor's readings, faults and gaps. For
// what concerns no sensor, sensor is "", and {sensor} becomes "fieldpost".
func (c *Config) ReadingsTopic(sensor string) string {
	return fill(c.Readings.Topic, c.Thing, sensor)
}

// ReadingsTopicOf is [Config.ReadingsTopic] for what a thing of that name took.
func (c *Config) ReadingsTopicOf(thing, sensor string) string {
	return fill(c.Readings.Topic, thing, sensor)
}

// CommandsTopic gives the topic of orders, or "" where none come by MQTT.
func (c *Config) CommandsTopic() string { return fill(c.Commands.Topic, c.Thing, "") }

// AnswersTopic gives the topic of answers and of the events of outputs, or ""
// where there is none.
func (c *Config) AnswersTopic() string { return fill(c.Commands.Answers, c.Thing, "") }

// AnswersTopicOf is [Config.AnswersTopic] for what a thing of that name answered.
func (c *Config) AnswersTopicOf(thing string) string { return fill(c.Commands.Answers, thing, "") }

func fill(topic, thing, sensor string) string {
	if sensor == "" {
		sensor = reserved
	}
	return strings.NewReplacer("{thing}", thing, "{sensor}", sensor).Replace(topic)
}

var placeholder = regexp.MustCompile(`\{[^{}]*\}`)

// checkPlaceholders refuses what stands in braces and is not known.
func checkPlaceholders(topic string, known []string) error {
	for _, p := range placeholder.FindAllString(topic, -1) {
		switch {
		case slices.Contains(known, p):
		case p == "{sensor}":
			return errors.New("{sensor} may stand in readings.topic only")
		default:
			return fmt.Errorf("unknown placeholder %s, want %s", printable(p), strings.Join(known, " or "))
		}
	}
	if strings.ContainsAny(placeholder.ReplaceAllString(topic, ""), "{}") {
		return errUnpaired
	}
	return nil
}

// The limits of AWS IoT Core ("Message broker and protocol limits and
// quotas"). Other brokers allow more; nobody needs it.
const (
	maxTopic   = 256 // bytes
	maxSlashes = 7
)

// checkTopic checks a topic with its placeholders filled in: MQTT 3.1.1,
// section 4.7, and the limits above. The prefix of Basic Ingest,
// $aws/rules/NAME/, counts for neither of them.
func checkTopic(topic string) error {
	counted := topic
	if rest, ok := strings.CutPrefix(topic, "$aws/rules/"); ok {
		_, counted, _ = strings.Cut(rest, "/")
	}
	switch slashes := strings.Count(counted, "/"); {
	case strings.ContainsAny(topic, "+#"):
		return errors.New("want one topic, without the wildcards + and #")
	case strings.HasPrefix(topic, "$share/"):
		return errors.New("want a topic, not a shared subscription: nothing is published to one, and its messages go to any one of its members")
	case strings.ContainsFunc(topic, unicode.IsControl):
		return errors.New("may not hold control characters")
	case len(counted) > maxTopic:
		return fmt.Errorf("is %d bytes long once filled in, want at most %d", len(counted), maxTopic)
	case slashes > maxSlashes:
		return fmt.Errorf("has %d slashes once filled in, want at most %d", slashes, maxSlashes)
	}
	return nil
}
