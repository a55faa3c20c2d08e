package config

import (
	"fmt"
	"slices"
	"strings"

	"fieldpost/daemon/topic"
)

// ReadingsTopic returns the topic of a sensor's readings, faults and gaps. For
// what concerns no sensor, sensor is "", and {sensor} becomes "fieldpost". Where
// {quantity} stands in it, it is that of online and offline: see [Config.ValueTopic].
func (c *Config) ReadingsTopic(sensor string) string {
	return c.ValueTopic(c.Thing, sensor, "status")
}

// ValueTopic returns the topic of what a thing of that name took: {quantity} becomes the
// name of a reading's quantity, and the kind of what is no reading.
func (c *Config) ValueTopic(thing, sensor, quantity string) string {
	return fill(strings.ReplaceAll(c.Readings.Topic, quantityPlaceholder, quantity), thing, sensor)
}

// Plain reports whether each quantity of a reading goes to a topic of its own, as a
// plain value: {quantity} stands in the topic.
func (r Readings) Plain() bool { return strings.Contains(r.Topic, quantityPlaceholder) }

const quantityPlaceholder = "{quantity}"

// CommandsTopic returns the topic of orders, or "" where none come by MQTT.
func (c *Config) CommandsTopic() string { return fill(c.Commands.Topic, c.Thing, "") }

// AnswersTopic returns the topic of answers and of the events of outputs, or ""
// where there is none.
func (c *Config) AnswersTopic() string { return fill(c.Commands.Answers, c.Thing, "") }

// AnswersTopicOf is [Config.AnswersTopic] for what a thing of that name answered.
func (c *Config) AnswersTopicOf(thing string) string { return fill(c.Commands.Answers, thing, "") }

// fill puts names into a topic's placeholders; "" is what concerns no sensor.
func fill(topic, thing, sensor string) string {
	if sensor == "" {
		sensor = reserved
	}
	return strings.NewReplacer("{thing}", thing, "{sensor}", sensor).Replace(topic)
}

// cutPlaceholders returns what stands in braces in a topic, with the braces, and the rest of it.
func cutPlaceholders(topic string) (placeholders []string, rest string) {
	for {
		end := strings.IndexByte(topic, '}') + 1
		if end == 0 {
			return placeholders, rest + topic
		}
		begin := strings.LastIndexByte(topic[:end], '{')
		if begin < 0 {
			begin = end // nothing opens it, so that it belongs to the rest
		} else {
			placeholders = append(placeholders, topic[begin:end])
		}
		rest, topic = rest+topic[:begin], topic[end:]
	}
}

// checkPlaceholders refuses what stands in braces and is not known.
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

// checkTopic checks a topic with its placeholders filled in; written is how it stands
// in the file.
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
