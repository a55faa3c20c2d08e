package uplink

import (
	"fmt"

	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/topic"
)

// maxPayload is the largest payload in bytes. The limit of AWS IoT Core holds for every
// broker, so that a configuration that works with one works with the other.
const maxPayload = awsiot.PayloadMax

// unsendable says why a mail can never be sent; "" when it can.
func unsendable(m Publication) string {
	if len(m.Payload) > maxPayload {
		return fmt.Sprintf("payload of %d bytes, more than %d", len(m.Payload), maxPayload)
	}
	if err := topic.Check(m.Topic); err != nil {
		return fmt.Sprintf("topic %.256q %v", m.Topic, err)
	}
	return ""
}
