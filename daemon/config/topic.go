package config

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"fieldpost/daemon/topic"
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
