package awsiot

import (
	"fmt"
	"strings"
	"time"
)

// The limits of the message broker for one connection, from the AWS General
// Reference, "AWS IoT Core endpoints and quotas", section "AWS IoT Core message
// broker and protocol limits and quotas".
const (
	PayloadMax       = 128 * 1024  // bytes of a PUBLISH's payload
	TopicMax         = 256         // bytes of a topic or a topic filter, in UTF-8
	TopicSlashes     = 7           // slashes in a topic or a topic filter
	ClientIDMax      = 128         // bytes of a client id
	SubscribeFilters = 8           // topic filters in one SUBSCRIBE
	Subscriptions    = 50          // subscriptions of one connection
	PublishRate      = 100         // PUBLISHes of one connection in a second, each way; the rest is discarded
	Throughput       = 512 * 1024  // bytes of one connection in a second, each way; the rest is delayed
	StoredRate       = 10          // messages in a second that a session kept and its next connection gets
	ConnectEvery     = time.Second // from one CONNECT of a client id to the next
	ReceiveMax       = 100         // unacknowledged PUBLISHes of one connection, each way
	KeepAliveMin     = 30 * time.Second
	KeepAliveMax     = 1200 * time.Second

	// SessionExpiry is how long a persistent session outlives its connection,
	// unless the account has asked for more.
	SessionExpiry = time.Hour

	// MessageExpiryMax is the longest message expiry of MQTT 5.
	MessageExpiryMax = 7 * 24 * time.Hour
)

// CheckTopic says why a topic, or a topic filter, is not within the limits of
// the broker; nil when it is. The prefix of Basic Ingest, $aws/rules/NAME/,
// counts for neither limit.
func CheckTopic(topic string) error {
	if topic == "" {
		return fmt.Errorf("topic is empty")
	}
	counted := topic
	if rest, ok := strings.CutPrefix(topic, "$aws/rules/"); ok {
		if _, after, ok := strings.Cut(rest, "/"); ok {
			counted = after
		}
	}
	if len(counted) > TopicMax {
		return fmt.Errorf("topic has %d bytes, AWS IoT Core takes %d", len(counted), TopicMax)
	}
	if n := strings.Count(counted, "/"); n > TopicSlashes {
		return fmt.Errorf("topic %q has %d slashes, AWS IoT Core takes %d", topic, n, TopicSlashes)
	}
	return nil
}

// CheckClientID says why a client id is not within the limits of the broker;
// nil when it is.
func CheckClientID(id string) error {
	switch {
	case id == "":
		return fmt.Errorf("client id is empty")
	case len(id) > ClientIDMax:
		return fmt.Errorf("client id has %d bytes, AWS IoT Core takes %d", len(id), ClientIDMax)
	case strings.HasPrefix(id, "$"):
		return fmt.Errorf("client id %q begins with a $, which is reserved", id)
	}
	return nil
}
