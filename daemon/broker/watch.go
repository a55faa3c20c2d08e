package broker

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/topic"
)

// Message is a message that the broker has taken.
type Message struct {
	Topic    string
	Payload  []byte
	QoS      byte // that it was published with
	Retained bool // of one to publish: it is to be retained; of one seen: it was there before
}

// watchers are those that see messages. Any goroutine may call its methods.
type watchers struct {
	mu  sync.Mutex
	all []*watcher
}

type watcher struct {
	filter string
	see    func(Message)
}

// Watch has see called with each message whose topic matches a filter, first with those that
// are retained, until stop is called. No policy limits it, as none limits the MQTT test client
// of the AWS console. see is called on the goroutines of those who publish, and must not block;
// a payload is its own. Any goroutine.
func (b *Broker) Watch(filter string, see func(Message)) (stop func(), err error) {
	if err := topic.CheckFilter(filter); err != nil {
		return nil, fmt.Errorf("filter %q %w", filter, err)
	}
	w := &watcher{filter, see}
	all := &b.rules.watchers
	all.mu.Lock()
	defer all.mu.Unlock() // also for the retained ones: they come first
	for _, pk := range b.server.Topics.Messages(filter) {
		if !b.rules.expired(pk) && topic.Matches(filter, pk.TopicName) {
			see(Message{pk.TopicName, bytes.Clone(pk.Payload), pk.FixedHeader.Qos, true})
		}
	}
	all.all = append(all.all, w)
	return func() {
		all.mu.Lock()
		defer all.mu.Unlock()
		all.all = slices.DeleteFunc(all.all, func(x *watcher) bool { return x == w })
	}, nil
}

// Publish publishes a message, within AWS's limits; no policy limits it. Any goroutine, while
// the broker runs.
func (b *Broker) Publish(m Message) error {
	if err := topic.Check(m.Topic); err != nil {
		return fmt.Errorf("topic %q %w", m.Topic, err)
	}
	switch {
	case len(m.Payload) > awsiot.PayloadMax:
		return fmt.Errorf("payload has %d bytes, AWS IoT Core takes %d", len(m.Payload), awsiot.PayloadMax)
	case m.QoS > 1:
		return errors.New("AWS IoT Core has QoS 0 and 1 only")
	}
	cl := b.server.NewClient(nil, mqtt.LocalListener, "console", true)
	err := b.server.InjectPacket(cl, packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: m.QoS, Retain: m.Retained},
		TopicName:   m.Topic, Payload: m.Payload, PacketID: uint16(m.QoS),
	})
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}

// tell shows a message to those who watch its topic.
func (w *watchers) tell(pk packets.Packet) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range w.all {
		if topic.Matches(x.filter, pk.TopicName) {
			x.see(Message{pk.TopicName, bytes.Clone(pk.Payload), pk.FixedHeader.Qos, false})
		}
	}
}

// OnPublished is called when a message has gone to its subscribers.
func (r *rules) OnPublished(_ *mqtt.Client, pk packets.Packet) {
	if !pk.Ignore {
		r.watchers.tell(pk)
	}
}

// OnWillSent is called when a last will has gone to its subscribers.
func (r *rules) OnWillSent(_ *mqtt.Client, pk packets.Packet) { r.watchers.tell(pk) }
