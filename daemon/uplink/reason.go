package uplink

import (
	"fmt"

	"fieldpost/daemon/health"
)

// reasons names the reason codes of MQTT 5 (OASIS Standard, 7 March 2019, section 2.4)
// from 128 on.
var reasons = map[byte]string{
	128: "unspecified error", 129: "malformed packet", 130: "protocol error", 131: "implementation specific error",
	132: "unsupported protocol version", 133: "client identifier not valid", 134: "bad user name or password", 135: "not authorized",
	136: "server unavailable", 137: "server busy", 138: "banned", 139: "server shutting down", 140: "bad authentication method",
	141: "keep alive timeout", 142: "session taken over", 143: "topic filter invalid", 144: "topic name invalid",
	145: "packet identifier in use", 146: "packet identifier not found", 147: "receive maximum exceeded", 148: "topic alias invalid",
	149: "packet too large", 150: "message rate too high", 151: "quota exceeded", 152: "administrative action",
	153: "payload format invalid", 154: "retain not supported", 155: "QoS not supported", 156: "use another server",
	157: "server moved", 158: "shared subscriptions not supported", 159: "connection rate exceeded", 160: "maximum connect time",
	161: "subscription identifiers not supported", 162: "wildcard subscriptions not supported",
}

// Reason is a reason code of MQTT 5, as a broker sent it.
type Reason struct {
	Packet string // "CONNACK"
	Code   byte   // 128 or more
	Text   string // the broker's own reason string; "" is none
}

// Error returns packet, code, the code's name and the broker's reason string.
func (r *Reason) Error() string {
	name := reasons[r.Code]
	if name == "" {
		name = "unknown reason"
	}
	s := fmt.Sprintf("%s %d: %s", r.Packet, r.Code, name)
	if r.Text != "" {
		s += fmt.Sprintf(" (%q)", r.Text)
	}
	return s
}

// ExplainReason returns what a reason code means in a situation, and what to do. The meanings
// are those of [Explain], which has to infer them from hang-ups.
func ExplainReason(r *Reason, at Disconnect) *Explained {
	e := explainReason(r.Code, at)
	e.Err = r
	return e
}

func explainReason(code byte, at Disconnect) *Explained {
	switch code {
	case 133:
		return explained(health.ConnectRefused, "Set another broker.client_id.", "the broker does not take the client id %q", at.ClientID)
	case 134:
		return loginRefused(at)
	case 132:
		return explained(health.ConnectRefused, "Nothing needs to be done: the daemon speaks MQTT 3.1.1.", "the broker does not speak MQTT 5")
	case 136, 137, 139:
		return explained(health.NetworkDown, "fieldpost tries again; if it stays, look at the broker's log.", "the broker says that it is not available")
	case 141:
		return explained(health.NetworkDown, "Check the network; fieldpost connects again.", "the broker has heard nothing from us for longer than the keep-alive allows")
	case 142:
		return explained(health.DuplicateClient, "Give every client a client id of its own: broker.client_id.", "another client has connected with the client id %q", at.ClientID)
	case 147, 150, 151, 159:
		return explained(health.NoAcknowledgement, "Send less at a time, fewer readings or in batches (readings.batch), or have the broker's quota raised.", "the broker says that we exceed a quota of its")
	}
	switch at.Phase {
	case Connecting:
		return notAuthorized(at)
	case Subscribing:
		e := subscribeDenied(at.Topic)
		e.Hint = allowSubscribe(at.Topic)
		return e
	case Publishing:
		return explained(health.PublishDenied, fmt.Sprintf("On AWS IoT Core allow iot:Publish on topic/%s; elsewhere check the broker's access rules.", at.Topic),
			"the broker does not allow to publish to %q", at.Topic)
	}
	return explained(health.NetworkDown, "fieldpost connects again; if it stays, look at the broker's log.", "the broker ended the connection")
}
