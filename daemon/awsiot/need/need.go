// Package need knows what a configuration of fieldpost asks AWS IoT Core for. It
// generates the policy that allows this and nothing else, and says of a policy
// whether it allows all of it, and what it allows besides.
package need

import (
	"slices"
	"strings"
	"unicode/utf8"

	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/config"
	"fieldpost/daemon/endpoint"
	"fieldpost/daemon/message"
	"fieldpost/sensors"
	"fieldpost/sensors/filter"
)

// Need is one thing that the daemon asks for with a configuration.
type Need struct {
	Action   string // "iot:Publish"
	Resource string // "topic/test/topic", without region and account
	For      string // what it is for, in words
	// Channels says that Resource ends in the sample of a channel's name, and that other
	// names may stand there: which ones is known only when the device is open.
	Channels bool

	clean bool // of a CONNECT: its session is clean, and it has no will
	raw   bool // Resource is a pattern
}

// channelID stands at the end of the name of a quantity for any channel.
const channelID = "_channel"

// Of lists what a daemon with this configuration asks for: to connect, the topics
// it publishes to, and what it subscribes to and receives. Each action on a
// resource comes once.
func Of(cfg *config.Config) []Need {
	var n needs
	n.add(awsiot.ActionConnect, "client/"+cfg.Broker.ClientID, connectFor(cfg))
	n.publish(cfg)
	if t := ordersTopic(cfg); t != "" {
		n.add(awsiot.ActionSubscribe, "topicfilter/"+t, "orders")
		n.add(awsiot.ActionReceive, "topic/"+t, "orders")
	}
	if t := cfg.ReadingsTopic(""); listens(cfg) {
		n.add(awsiot.ActionSubscribe, "topicfilter/"+t, "broker.verify")
		n.add(awsiot.ActionReceive, "topic/"+t, "broker.verify")
	}
	return n.all
}

// senderID ends the client id of fieldpost send --via mqtt; the digits are any four.
const senderID = "-send-0000"

// Sender lists what fieldpost send --via mqtt asks for with this configuration.
func Sender(cfg *config.Config) []Need {
	t := ordersTopic(cfg)
	if t == "" {
		return nil
	}
	var n needs
	n.add(awsiot.ActionConnect, "client/"+senderOf(cfg), "send --via mqtt")
	n.add(awsiot.ActionPublish, "topic/"+t, "send --via mqtt")
	n.add(awsiot.ActionSubscribe, "topicfilter/"+cfg.AnswersTopic(), "answers to send --via mqtt")
	n.add(awsiot.ActionReceive, "topic/"+cfg.AnswersTopic(), "answers to send --via mqtt")
	return n.all
}

// senderOf is the client id of fieldpost send: it begins as the daemon's does, as far
// as there is room for it.
func senderOf(cfg *config.Config) string {
	id := cfg.Broker.ClientID
	cut := min(len(id), awsiot.ClientIDMax-len(senderID))
	for cut > 0 && cut < len(id) && !utf8.RuneStart(id[cut]) {
		cut--
	}
	return id[:cut] + senderID
}

type needs struct{ all []Need }

// add notes a need, or one purpose more of one that is there.
func (n *needs) add(action, resource, purpose string) {
	i := slices.IndexFunc(n.all, func(x Need) bool { return x.Action == action && x.Resource == resource })
	if i < 0 {
		n.all = append(n.all, Need{Action: action, Resource: resource, For: purpose})
	} else if x := &n.all[i]; !slices.Contains(strings.Split(x.For, ", "), purpose) {
		x.For += ", " + purpose
	}
}

func (n *needs) publish(cfg *config.Config) {
	readings := func(sensor, purpose string) {
		n.add(awsiot.ActionPublish, "topic/"+cfg.ReadingsTopic(sensor), purpose)
	}
	if cfg.Readings.Plain() {
		n.publishPlain(cfg)
	} else {
		for _, s := range cfg.Sensors {
			readings(s.Name, "readings of "+s.Name)
		}
	}
	readings("", "faults, online and offline")
	if cfg.Broker.Will != "none" {
		readings("", "the will")
	}
	if len(cfg.Outputs) == 0 {
		return
	}
	if t := cfg.AnswersTopic(); t != "" {
		n.add(awsiot.ActionPublish, "topic/"+t, "answers and events of outputs")
	} else {
		readings("", "events of outputs")
	}
}

// publishPlain adds the topics where {quantity} stands in that of readings: one for each
// quantity that a chip may measure, one for each channel of it, one for the number of changes
// of a line, and one for each kind of what is no reading.
func (n *needs) publishPlain(cfg *config.Config) {
	topics := func(sensor, purpose string, names ...string) {
		for _, name := range names {
			n.add(awsiot.ActionPublish, "topic/"+cfg.ValueTopic(cfg.Thing, sensor, name), purpose)
		}
	}
	for _, s := range cfg.Sensors {
		chip, _ := sensors.Lookup(s.Chip)
		for _, q := range filter.Quantities(chip, s) {
			topics(s.Name, "readings of "+s.Name, q.Name)
			if chip.Channels {
				topics(s.Name, "readings of "+s.Name, q.Name+channelID)
				n.all[len(n.all)-1].Channels = true
			}
		}
		if _, line := s.Options.(sensors.GPIO); line {
			topics(s.Name, "readings of "+s.Name, "changes")
		}
		topics(s.Name, "faults and gaps of "+s.Name, string(message.Fault), string(message.Gap))
	}
	topics("", "faults and gaps", string(message.Fault), string(message.Gap))
	if len(cfg.Outputs) > 0 && cfg.AnswersTopic() == "" {
		topics("", "answers and events of outputs", string(message.Answer), string(message.Event))
	}
}

// ordersTopic is where orders come from, "" where none do.
func ordersTopic(cfg *config.Config) string {
	if len(cfg.Outputs) == 0 {
		return ""
	}
	return cfg.CommandsTopic()
}

// clean reports whether the daemon connects with a clean session: so that the broker
// stores no order while it is away.
func clean(cfg *config.Config) bool {
	return ordersTopic(cfg) != "" && cfg.Commands.Unstamped == "accept"
}

// listens reports whether the daemon subscribes to its own readings, to see whether
// they arrive: not where AWS IoT Core's limits are kept.
func listens(cfg *config.Config) bool {
	if cfg.Broker.Verify != "subscribe" || cfg.Broker.Limits == "aws" {
		return false
	}
	if cfg.Broker.Limits == "none" {
		return true
	}
	host := cfg.Broker.Endpoint
	if e, err := endpoint.Parse(host); err == nil {
		host = e.Host
	}
	return !strings.HasSuffix(host, ".amazonaws.com") && !strings.HasSuffix(host, ".amazonaws.com.cn")
}

// attributes are the iot:ConnectAttributes of the daemon's CONNECT.
func attributes(cfg *config.Config) (all []string) {
	if !clean(cfg) {
		all = append(all, awsiot.PersistentConnect)
	}
	if cfg.Broker.Will != "none" {
		all = append(all, awsiot.LastWill)
	}
	return all
}

func connectFor(cfg *config.Config) string {
	said := map[string]string{awsiot.PersistentConnect: "with a persistent session", awsiot.LastWill: "a will"}
	parts := []string{"to connect"}
	for _, a := range attributes(cfg) {
		parts = append(parts, said[a])
	}
	if len(parts) == 2 && parts[1] == "a will" {
		parts[1] = "with a will"
	}
	return strings.TrimSpace(parts[0] + " " + strings.Join(parts[1:], " and "))
}

// Connection is the daemon as AWS IoT Core sees it, with a thing of the
// configuration's name that the certificate is attached to.
func Connection(cfg *config.Config) *awsiot.Connection {
	by := &awsiot.Connection{
		ClientID: cfg.Broker.ClientID, Thing: &awsiot.Thing{Name: cfg.Thing, Attached: true},
		ConnectAttributes: attributes(cfg),
	}
	if cfg.Broker.Will != "none" {
		by.LastWillTopic = cfg.ReadingsTopic("")
	}
	if e, err := endpoint.Parse(cfg.Broker.Endpoint); err == nil {
		by.Domain = e.Host
	}
	return by
}
