package awsiot

import (
	"fmt"
	"strings"
)

// Policy is a policy document, understood. Make one with [Parse]; the zero
// Policy allows nothing.
type Policy struct {
	statements []statement
}

// statement is one element of a policy's Statement.
type statement struct {
	allow     bool
	actions   []pattern
	resources []arn
}

// arn is a resource, or a pattern of resources, cut at its colons:
// arn:aws:iot:REGION:ACCOUNT:topic/test/topic. A lone * is five stars.
type arn struct {
	head [4]pattern // partition, service, region, account
	rest pattern
}

// Vars are the values of a connection that a policy's variables stand for.
type Vars struct {
	ClientID string
	// ThingName is the thing that the certificate is attached to, where the
	// client id is its name; empty when there is none.
	ThingName string
}

// Decision is the answer to one question, and which statement gave it.
type Decision struct {
	Allowed  bool
	Explicit bool // denied by a Deny, not for want of an Allow
	// Statement is the number of the statement that decided, the first is 1;
	// 0 when no statement matched.
	Statement int
}

// String says it as one would: "denied by statement 2".
func (d Decision) String() string {
	switch {
	case d.Allowed:
		return fmt.Sprintf("allowed by statement %d", d.Statement)
	case d.Explicit:
		return fmt.Sprintf("denied by statement %d", d.Statement)
	default:
		return "allowed by no statement"
	}
}

// Allows decides whether a connection with these values may do an action, such
// as "iot:Publish", on a resource. The resource is either a whole ARN,
// "arn:aws:iot:eu-west-1:123456789012:topic/test/topic", or only its last part,
// "topic/test/topic", and then region and account are not compared.
//
// A nil Policy allows nothing. Any number of goroutines may ask at once.
func (p *Policy) Allows(action, resource string, v Vars) Decision {
	if p == nil {
		return Decision{}
	}
	wanted := cut(resource)
	action = strings.ToLower(action)
	var d Decision
	for i, s := range p.statements {
		if d.Allowed && s.allow || !s.matches(action, wanted, v) {
			continue
		}
		if !s.allow {
			return Decision{Explicit: true, Statement: i + 1}
		}
		d = Decision{Allowed: true, Statement: i + 1}
	}
	return d
}

// asked is a resource that somebody asks about.
type asked struct {
	head [4]string
	full bool // head is to be compared
	rest string
}

func cut(resource string) asked {
	if parts := strings.SplitN(resource, ":", 6); len(parts) == 6 && parts[0] == "arn" {
		return asked{head: [4]string(parts[1:5]), full: true, rest: parts[5]}
	}
	return asked{rest: resource}
}

func (s statement) matches(action string, wanted asked, v Vars) bool {
	return s.does(action) && s.covers(wanted, v)
}

func (s statement) does(action string) bool {
	for _, a := range s.actions {
		if a.matches(action) {
			return true
		}
	}
	return false
}

func (s statement) covers(wanted asked, v Vars) bool {
	for _, r := range s.resources {
		if r.covers(wanted, v) {
			return true
		}
	}
	return false
}

func (r arn) covers(wanted asked, v Vars) bool {
	if wanted.full {
		for i, p := range r.head {
			if p, ok := p.fill(v); !ok || !p.matches(wanted.head[i]) {
				return false
			}
		}
	}
	rest, ok := r.rest.fill(v)
	return ok && rest.matches(wanted.rest)
}

// Tutorial is the restricted policy of the AWS IoT tutorial for a device's
// first connection: clients test-* and thing-* may connect; one topic,
// test/topic, may be published to, subscribed to and received from. Nothing
// may be retained.
func Tutorial() *Policy {
	p, err := Parse([]byte(tutorial))
	if err != nil {
		panic("awsiot: the tutorial's policy: " + err.Error()) // a constant: a test sees it first
	}
	return p
}

const tutorial = `{
  "Version": "2012-10-17",
  "Statement": [
    {"Effect": "Allow", "Action": "iot:Connect",
     "Resource": ["arn:aws:iot:*:*:client/test-*", "arn:aws:iot:*:*:client/thing-*"]},
    {"Effect": "Allow", "Action": ["iot:Publish", "iot:Receive"],
     "Resource": "arn:aws:iot:*:*:topic/test/topic"},
    {"Effect": "Allow", "Action": "iot:Subscribe",
     "Resource": "arn:aws:iot:*:*:topicfilter/test/topic"}
  ]
}`
