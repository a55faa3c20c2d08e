package need

import (
	"bytes"
	"encoding/json"
	"strings"

	"fieldpost/daemon/awsiot"
)

// Statements are the statements of a policy that allow each of some actions, as JSON on one
// line each. The region is that of the endpoint; what it does not tell is REGION, and the
// account always ACCOUNT, for the reader to fill in.
func Statements(endpoint string, needs ...Need) []string {
	region := regionOf(endpoint)
	if region == "" {
		region = "REGION"
	}
	var out []string
	for _, n := range needs {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		err := e.Encode(struct{ Effect, Action, Resource string }{"Allow", n.Action, "arn:" + partitionOf(region) + ":iot:" + region + ":ACCOUNT:" + pattern(n)})
		if err != nil {
			panic(err) // strings can always be encoded
		}
		out = append(out, strings.TrimSpace(b.String()))
	}
	return out
}

// pattern writes a need's resource as it stands in a policy. What a subscription with wildcards
// receives is any topic that they match.
func pattern(n Need) string {
	if n.Action != awsiot.ActionReceive {
		return awsiot.Escape(n.Resource)
	}
	levels := strings.Split(n.Resource, "/")
	for i, level := range levels {
		if level == "+" || level == "#" {
			levels[i] = "*"
		} else {
			levels[i] = awsiot.Escape(level)
		}
	}
	return strings.Join(levels, "/")
}

// ToConnect is what a client needs to connect.
func ToConnect(clientID string) []Need {
	return []Need{{Action: awsiot.ActionConnect, Resource: "client/" + clientID}}
}

// ToPublish is what a client needs to publish to a topic.
func ToPublish(topic string, retain bool) []Need {
	n := []Need{{Action: awsiot.ActionPublish, Resource: "topic/" + topic}}
	if retain {
		n = append(n, Need{Action: awsiot.ActionRetainPublish, Resource: "topic/" + topic})
	}
	return n
}

// ToSubscribe is what a client needs to subscribe to a filter and to receive what it matches.
func ToSubscribe(filter string) []Need {
	return []Need{{Action: awsiot.ActionSubscribe, Resource: "topicfilter/" + filter}, {Action: awsiot.ActionReceive, Resource: "topic/" + filter}}
}
