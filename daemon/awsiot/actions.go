package awsiot

import (
	"slices"
	"strings"
)

// The actions that an MQTT client is asked for.
const (
	ActionConnect       = "iot:Connect"
	ActionPublish       = "iot:Publish"
	ActionRetainPublish = "iot:RetainPublish"
	ActionSubscribe     = "iot:Subscribe"
	ActionReceive       = "iot:Receive"
)

// action is one that a policy of AWS IoT Core may name, with the kind of resource
// it is asked for, from the guide's pages "AWS IoT Core policy actions" and
// "Action resources".
type action struct {
	name string
	kind string // "client", "topic", "topicfilter", "thing"; "*" is no resource at all
	mqtt bool   // an MQTT client is asked for it; the others are HTTP only
}

var actions = []action{
	{ActionConnect, "client", true},
	{ActionPublish, "topic", true},
	{ActionRetainPublish, "topic", true},
	{ActionReceive, "topic", true},
	{ActionSubscribe, "topicfilter", true},
	{"iot:GetRetainedMessage", "topic", false},
	{"iot:ListRetainedMessages", "*", false},
	{"iot:DeleteThingShadow", "thing", false},
	{"iot:GetThingShadow", "thing", false},
	{"iot:ListNamedShadowsForThing", "thing", false},
	{"iot:UpdateThingShadow", "thing", false},
	{"iot:DescribeJobExecution", "thing", false},
	{"iot:GetPendingJobExecutions", "thing", false},
	{"iot:UpdateJobExecution", "thing", false},
	{"iot:StartNextPendingJobExecution", "thing", false},
	{"iot:AssumeRoleWithCertificate", "rolealias", false},
}

// actionNamed finds an action by its name, in any case.
func actionNamed(name string) (action, bool) {
	i := slices.IndexFunc(actions, func(a action) bool { return strings.EqualFold(a.name, name) })
	if i < 0 {
		return action{}, false
	}
	return actions[i], true
}

// nearestAction gives the action that was probably meant, or "".
func nearestAction(name string) string {
	best, least := "", 4
	for _, a := range actions {
		if d := distance(strings.ToLower(a.name), strings.ToLower(name)); d < least {
			best, least = a.name, d
		}
	}
	return best
}

// kindOf gives the part of a resource's last segment before the first slash.
func kindOf(rest string) string {
	kind, _, _ := strings.Cut(rest, "/")
	return kind
}
