package awsiot

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Policy is one policy document, understood, or several that count together. Make
// one with [Parse] or [ParseNamed], several one with [Merge]; the zero Policy
// allows nothing, nor does a nil one. It does not change once it is made, so any
// number of goroutines may ask at once.
type Policy struct {
	statements []*statement
}

// Merge gives the policies that are attached together, to one certificate and the
// groups of its thing: what any of them denies is denied, what any of them allows is
// allowed otherwise.
func Merge(policies ...*Policy) *Policy {
	all := &Policy{}
	for _, p := range policies {
		if p != nil {
			all.statements = append(all.statements, p.statements...)
		}
	}
	return all
}

// Statement says which statement of which policy it is. The zero Statement is
// none.
type Statement struct {
	Policy string // the policy's name; "" where it has none
	Number int    // from 1
	Sid    string // "" without one
	Line   int    // where it begins
	Column int
	Allow  bool // its effect
}

// String says it as one would: `statement 2 "Topics" (restricted.json:7)`.
func (s Statement) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "statement %d", s.Number)
	if s.Sid != "" {
		fmt.Fprintf(&b, " %q", s.Sid)
	}
	if s.Policy == "" {
		fmt.Fprintf(&b, " (line %d)", s.Line)
	} else {
		fmt.Fprintf(&b, " (%s:%d)", s.Policy, s.Line)
	}
	return b.String()
}

// statement is one element of a policy's Statement.
type statement struct {
	ref         Statement
	actions     []named
	notAction   bool
	resources   []arn
	notResource bool
	conditions  []condition
}

// arn is a resource, or a pattern of resources, cut at its colons:
// arn:aws:iot:REGION:ACCOUNT:topic/test/topic. A lone * is five stars.
type arn struct {
	text    string     // as written
	head    [4]pattern // partition, service, region, account
	rest    pattern
	name    string // the text of rest
	escapes bool   // it has ${*}, ${?} or ${$}
}

// Request is one question: may this connection do this?
type Request struct {
	// Action is such as "iot:Publish".
	Action string
	// Resource is a whole ARN, "arn:aws:iot:eu-west-1:123456789012:topic/a", or only
	// its last part, "topic/a": then region and account are not compared.
	Resource string
	// By is who asks; nil is a connection of which nothing is known.
	By *Connection
}

// Decision is the answer to a question, and why.
type Decision struct {
	Action, Resource string // what was asked

	Allowed  bool
	Explicit bool // denied by a Deny, not for want of an Allow
	// Statement is the one that decided; zero when none matched.
	Statement Statement
	// Misses are the statements that came nearest to allowing it, the nearest first, 3
	// at most; none where a statement decided.
	Misses []Miss
	// Inferred says which rules the answer rests on that AWS's documentation of IoT
	// policies does not state; IAM's are taken for them, or what is likely.
	Inferred []string
	// Limit is set where no policy would help: why AWS IoT Core refuses it anyway.
	Limit string
}

// Miss is a statement that would have allowed something, but for a reason.
type Miss struct {
	Statement Statement
	Action    bool // it is about the action
	Resource  bool // and about the resource
	Reason    string
}

// String says it in one line: "allowed by statement 2 (line 7)". Of what no
// statement allows it names the nearest that would have.
func (d Decision) String() string {
	switch {
	case d.Limit != "":
		return "refused whatever the policy says: " + d.Limit
	case d.Allowed:
		return "allowed by " + d.Statement.String()
	case d.Explicit:
		return "denied by " + d.Statement.String()
	case len(d.Misses) == 0:
		return "allowed by no statement"
	default:
		return fmt.Sprintf("allowed by no statement; nearest is %s: %s", d.Misses[0].Statement, d.Misses[0].Reason)
	}
}

// question is a request while it is being decided.
type question struct {
	by     *Connection
	action string // in lower case
	wanted asked
	notes  []string // what was inferred
}

// nobody is a connection of which nothing is known.
var nobody = &Connection{}

func (q *question) value(name string) value { return q.by.lookup(name, q.action) }

// note takes down what is inferred, once.
func (q *question) note(s string) {
	if !slices.Contains(q.notes, s) {
		q.notes = append(q.notes, s)
	}
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

// Decide answers a request: a Deny that matches decides before any Allow, and what
// no statement allows is denied. Of several that match, the first is named.
func (p *Policy) Decide(r Request) Decision {
	d := Decision{Action: r.Action, Resource: r.Resource}
	if p == nil {
		return d
	}
	q := &question{by: r.By, action: strings.ToLower(r.Action), wanted: cut(r.Resource)}
	if q.by == nil {
		q.by = nobody
	}
	// Whether a statement that did not match might have by a rule that is only
	// inferred bears on the answer where its effect would have changed it.
	var decided, passedAllow, passedDeny []string
	for _, s := range p.statements {
		if d.Allowed && s.ref.Allow {
			continue
		}
		q.notes = nil
		switch matched := s.matches(q); {
		case !matched && s.ref.Allow:
			passedAllow = append(passedAllow, q.notes...)
			continue
		case !matched:
			passedDeny = append(passedDeny, q.notes...)
			continue
		}
		d.Allowed, d.Explicit, d.Statement, decided = s.ref.Allow, !s.ref.Allow, s.ref, q.notes
		if d.Explicit {
			break
		}
	}
	switch {
	case d.Explicit:
		d.Inferred = decided
	case d.Allowed:
		d.Inferred = append(decided, passedDeny...)
	default:
		d.Inferred = passedAllow
	}
	d.Inferred = slices.Compact(d.Inferred)
	if d.Statement == (Statement{}) {
		d.Misses = p.misses(q)
	}
	return d
}

// Connect asks for iot:Connect on the connection's client id.
func (p *Policy) Connect(by *Connection) Decision {
	if by == nil {
		by = nobody
	}
	return p.Decide(Request{Action: ActionConnect, Resource: "client/" + by.ClientID, By: by})
}

// Publish asks for iot:Publish on a topic and, of a message to be retained, for
// iot:RetainPublish as well. The answer is the first that is no.
func (p *Policy) Publish(by *Connection, topic string, retain bool) Decision {
	d := p.Decide(Request{Action: ActionPublish, Resource: "topic/" + topic, By: by})
	if !d.Allowed || !retain {
		return d
	}
	first := d.Inferred
	d = p.Decide(Request{Action: ActionRetainPublish, Resource: "topic/" + topic, By: by})
	d.Inferred = append(first, d.Inferred...)
	if strings.HasPrefix(topic, "$aws/") {
		d.Allowed, d.Limit = false, "messages to reserved topics ($aws/...) cannot be retained"
	}
	return d
}

// Subscribe asks for iot:Subscribe on a topic filter.
func (p *Policy) Subscribe(by *Connection, filter string) Decision {
	return p.Decide(Request{Action: ActionSubscribe, Resource: "topicfilter/" + filter, By: by})
}

// Receive asks for iot:Receive on a topic, as AWS IoT Core does for each delivery.
func (p *Policy) Receive(by *Connection, topic string) Decision {
	return p.Decide(Request{Action: ActionReceive, Resource: "topic/" + topic, By: by})
}

func (s *statement) matches(q *question) bool {
	if !s.does(q) {
		return false
	}
	if !s.covers(q) {
		if !s.notResource {
			q.notes = nil // it would not match by any rule
		}
		return false
	}
	for i := range s.conditions {
		if !s.conditions[i].holds(q) {
			return false
		}
	}
	return true
}

func (s *statement) does(q *question) bool {
	for _, a := range s.actions {
		if a.pattern.matches(q.action) {
			if !s.notAction {
				a.infer(q)
			}
			return !s.notAction
		}
	}
	return s.notAction
}

// infer notes what of an action that matched is not documented.
func (a named) infer(q *question) {
	if _, name, ok := strings.Cut(a.text, ":"); ok && name != "*" && a.pattern.wild() {
		q.note(fmt.Sprintf("that an action may be %s is IAM's rule; the IoT guide has no example of it", a.text))
	}
	if known, ok := actionNamed(a.text); ok && known.name != a.text {
		q.note(fmt.Sprintf("that the action %s may be written %s is IAM's rule", known.name, a.text))
	}
}

func (s *statement) covers(q *question) bool {
	for _, r := range s.resources {
		ok, missing := r.covers(q, q.wanted)
		if ok {
			if r.escapes {
				q.note("the escapes ${*}, ${?} and ${$} are IAM's")
			}
			return !s.notResource
		}
		if missing != "" && s.notResource {
			q.note(fmt.Sprintf("in NotResource %s: it is taken as excepting nothing", missing))
		}
	}
	return s.notResource
}

// covers reports whether the resource is one of the pattern; missing says which
// variable has no value, and then it is not.
func (r *arn) covers(q *question, wanted asked) (ok bool, missing string) {
	if wanted.full {
		for i, p := range r.head {
			if !p.matches(wanted.head[i]) {
				return false, ""
			}
		}
	}
	rest, missing := r.rest.fill(q)
	return missing == "" && rest.matches(wanted.rest), missing
}

// misses finds the statements that came nearest to allowing what none allows.
func (p *Policy) misses(q *question) []Miss {
	type ranked struct {
		Miss
		far int
	}
	var all []ranked
	for _, s := range p.statements {
		if !s.ref.Allow {
			continue
		}
		m, far := s.miss(q)
		all = append(all, ranked{m, far})
	}
	slices.SortStableFunc(all, func(a, b ranked) int { return cmp.Compare(a.far, b.far) })
	var out []Miss
	for _, r := range all[:min(len(all), 3)] {
		out = append(out, r.Miss)
	}
	return out
}

// The distances of a statement from what was asked: the action weighs most, for a
// statement about another action is hardly a near miss.
const (
	farAction   = 1000
	farResource = 100
	farHead     = 40
)

// miss says why a statement does not match. far is how far it is from matching.
func (s *statement) miss(q *question) (m Miss, far int) {
	scratch := &question{by: q.by, action: q.action, wanted: q.wanted}
	m = Miss{Statement: s.ref, Action: s.does(scratch), Resource: s.covers(scratch)}
	var reasons []string
	if !m.Action {
		far += farAction
		reasons = append(reasons, s.whyAction(q))
	}
	if !m.Resource {
		why, how := s.whyResource(scratch)
		far += how
		if m.Action || len(reasons) == 0 {
			reasons = append(reasons, why)
		}
	}
	for i := range s.conditions {
		if c := &s.conditions[i]; !c.holds(scratch) {
			far++
			reasons = append(reasons, c.why(scratch))
		}
	}
	m.Reason = strings.Join(reasons, "; ")
	return m, far
}

func (s *statement) whyAction(q *question) string {
	var all []string
	for _, a := range s.actions {
		all = append(all, a.text)
	}
	name := q.action
	if known, ok := actionNamed(name); ok {
		name = known.name
	}
	if s.notAction {
		return fmt.Sprintf("its NotAction excepts %s", name)
	}
	return fmt.Sprintf("it allows %s and not %s", strings.Join(all, ", "), name)
}

// whyResource says why the resource is not covered, by the pattern that comes
// nearest.
func (s *statement) whyResource(q *question) (why string, far int) {
	if s.notResource {
		return fmt.Sprintf("its NotResource excepts %s", q.wanted.rest), farResource
	}
	far = 2 * farResource
	var names []string
	for i := range s.resources {
		r := &s.resources[i]
		names = append(names, r.name)
		reason, how := r.whyNot(q)
		if how < far {
			why, far = reason, how
		}
	}
	if why != "" {
		return why, far
	}
	return fmt.Sprintf("%s is not %s", q.wanted.rest, either(names)), far
}

// whyNot gives a special reason why a pattern does not cover what was asked, and
// how far it is from it; "" where it is simply another name.
func (r *arn) whyNot(q *question) (string, int) {
	wanted := q.wanted
	rest, missing := r.rest.fill(q)
	asked, named := kindOf(wanted.rest), kindOf(r.name)
	switch {
	case missing != "" && asked == named:
		return fmt.Sprintf("%s: %s", r.name, missing), farHead - 1
	case missing != "":
		return "", farResource
	case rest.matches(wanted.rest):
		return fmt.Sprintf("it is for another region or account: %s", r.text), farHead
	case rest.lower().matches(strings.ToLower(wanted.rest)):
		return fmt.Sprintf("%s differs from %s in upper and lower case", r.name, wanted.rest), farHead
	case asked == "topicfilter" && rest.matches("topic"+strings.TrimPrefix(wanted.rest, "topicfilter")),
		asked == "topic" && rest.matches("topicfilter"+strings.TrimPrefix(wanted.rest, "topic")):
		return fmt.Sprintf("it names %s; this action is asked for %s/", r.name, asked), farHead
	case asked != named:
		return "", 2*farResource - 1
	}
	return "", farResource - min(common(r.name, wanted.rest), farHead)
}

// common is the length of the beginning that two texts share.
func common(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

func either(names []string) string {
	const most = 6
	more := ""
	if len(names) > most {
		names, more = names[:most], fmt.Sprintf(" nor %d more", len(names)-most)
	}
	return strings.Join(names, " nor ") + more
}

// Tutorial is the restricted policy of the AWS IoT tutorial for a device's
// first connection: clients test-* and thing-* may connect; one topic,
// test/topic, may be published to, subscribed to and received from. Nothing
// may be retained.
func Tutorial() *Policy {
	p, err := ParseNamed("restricted", []byte(tutorial))
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
