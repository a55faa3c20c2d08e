package config

import (
	"fmt"
	"slices"
	"strings"

	"fieldpost/daemon/topic"
)

// ReadingsTopic returns the topic of a sensor's readings, faults and gaps. If sensor is "",
// it is the topic of what concerns no sensor, and {sensor} becomes "fieldpost". {quantity}
// becomes "status", as for online and offline; see [Config.ValueTopic].
func (c *Config) ReadingsTopic(sensor string) string {
	return c.ValueTopic(c.Thing, sensor, "status")
}

// ValueTopic returns the topic of a quantity of a sensor's readings, as taken by a thing of
// this name. For messages that are no readings, quantity is their kind. It replaces
// {quantity}.
func (c *Config) ValueTopic(thing, sensor, quantity string) string {
	return fill(strings.ReplaceAll(c.Readings.Topic, quantityPlaceholder, quantity), thing, sensor)
}

// Plain reports whether each quantity of a reading goes to a topic of its own, as a plain
// value. That is so if the topic contains {quantity}.
func (r Readings) Plain() bool { return strings.Contains(r.Topic, quantityPlaceholder) }

const quantityPlaceholder = "{quantity}"

// CommandsTopic returns the topic of orders, or "" if none come over MQTT.
func (c *Config) CommandsTopic() string { return fill(c.Commands.Topic, c.Thing, "") }

// AnswersTopic returns the topic of answers and of the events of outputs, or "" if there is
// none.
func (c *Config) AnswersTopic() string { return fill(c.Commands.Answers, c.Thing, "") }

// AnswersTopicOf is [Config.AnswersTopic] for the answers of a thing of this name.
func (c *Config) AnswersTopicOf(thing string) string { return fill(c.Commands.Answers, thing, "") }

// fill replaces the placeholders of a topic. A sensor of "" becomes "fieldpost".
func fill(topic, thing, sensor string) string {
	if sensor == "" {
		sensor = reserved
	}
	return strings.NewReplacer("{thing}", thing, "{sensor}", sensor).Replace(topic)
}

// cutPlaceholders returns the parts of a topic in braces, with the braces, and the rest of
// the topic.
func cutPlaceholders(topic string) (placeholders []string, rest string) {
	for {
		end := strings.IndexByte(topic, '}') + 1
		if end == 0 {
			return placeholders, rest + topic
		}
		begin := strings.LastIndexByte(topic[:end], '{')
		if begin < 0 {
			begin = end // without an opening brace it belongs to the rest
		} else {
			placeholders = append(placeholders, topic[begin:end])
		}
		rest, topic = rest+topic[:begin], topic[end:]
	}
}

// checkPlaceholders refuses unknown placeholders and unmatched braces.
func checkPlaceholders(topic string, known []string) error {
	found, rest := cutPlaceholders(topic)
	for _, p := range found {
		switch {
		case slices.Contains(known, p):
		case p == "{sensor}", p == quantityPlaceholder:
			return fmt.Errorf("%s is allowed only in readings.topic", p)
		default:
			return fmt.Errorf("unknown placeholder %s, want %s", printable(p), strings.Join(known, " or "))
		}
	}
	if strings.ContainsAny(rest, "{}") {
		return errUnpaired
	}
	return nil
}

// checkTopic checks a topic with its placeholders filled in. written is the topic as it
// stands in the file.
func checkTopic(filled, written string) error {
	if filled == "" {
		return nil // none
	}
	err := topic.Check(filled)
	if err != nil && filled != written {
		return fmt.Errorf("once filled in, %w", err)
	}
	return err
}
