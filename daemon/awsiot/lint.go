package awsiot

import (
	"fmt"
	"slices"
	"strings"
)

// Severity says how bad a finding is.
type Severity string

// The severities.
const (
	Trap Severity = "trap" // the policy does something else than it seems to
	Note Severity = "note" // it may be meant so
)

// Finding is something about a policy that people fall into.
type Finding struct {
	Code      string    // a name for it, such as "topic-for-topicfilter"
	Severity  Severity  // trap or note
	Statement Statement // zero: the policies as a whole
	Text      string    // what is so
	Advice    string    // what to do
}

// String says it in one line, without the advice.
func (f Finding) String() string {
	where := "the policy"
	if f.Statement != (Statement{}) {
		where = f.Statement.String()
	}
	return fmt.Sprintf("%s: %s: %s (%s)", f.Severity, where, f.Text, f.Code)
}

// probe is the client that the linter tries things as: registered, attached.
const probe = "lint-probe"

// Lint names what the policies do and nobody would expect. Of policies that are
// attached together lint them together, by [Merge]: what one denies may excuse
// another. No finding does not mean that a policy is as narrow as it could be.
func (p *Policy) Lint() []Finding {
	l := &linter{policy: p, by: &Connection{ClientID: probe, Thing: &Thing{Name: probe, Attached: true}}}
	for _, s := range p.statements {
		l.actions(s)
		l.kinds(s)
		l.names(s)
		l.conditions(s)
		l.broad(s)
		l.connects(s)
		l.clientIDs(s)
		l.slips(s)
	}
	l.whole()
	return l.out
}

type linter struct {
	policy *Policy
	by     *Connection
	out    []Finding
}

func (l *linter) find(severity Severity, s *statement, code, text, advice string) {
	f := Finding{Code: code, Severity: severity, Text: text, Advice: advice}
	if s != nil {
		f.Statement = s.ref
	}
	if !slices.Contains(l.out, f) {
		l.out = append(l.out, f)
	}
}

// about gives the actions of MQTT clients that a statement is about.
func (s *statement) about() (all []action) {
	for _, a := range actions {
		if a.mqtt && s.does(&question{action: strings.ToLower(a.name)}) {
			all = append(all, a)
		}
	}
	return all
}

// named reports whether a statement names the action without a wildcard.
func (s *statement) named(name string) bool {
	return !s.notAction && slices.ContainsFunc(s.actions, func(a named) bool { return strings.EqualFold(a.text, name) })
}

// actions looks for names that no device is asked for.
func (l *linter) actions(s *statement) {
	if s.notAction && s.ref.Allow {
		l.find(Trap, s, "allow-not-action", "it allows every action but those it names, also actions that AWS adds later", "name the actions that are needed in Action")
	}
	for _, a := range s.actions {
		known := slices.ContainsFunc(actions, func(x action) bool { return a.pattern.matches(strings.ToLower(x.name)) })
		switch {
		case known || !strings.HasPrefix(strings.ToLower(a.text), "iot:"):
		case nearestAction(a.text) != "":
			l.find(Trap, s, "unknown-action", fmt.Sprintf("no device is ever asked for %s", a.text), fmt.Sprintf("did you mean %s", nearestAction(a.text)))
		default:
			l.find(Trap, s, "unknown-action", fmt.Sprintf("no device is ever asked for %s", a.text), "devices are asked for iot:Connect, iot:Publish, iot:RetainPublish, iot:Subscribe and iot:Receive")
		}
		if x, ok := actionNamed(a.text); ok && x.kind == "thing" {
			l.find(Note, s, "http-only", fmt.Sprintf("%s is asked for over HTTPS only", x.name), "over MQTT let iot:Publish, iot:Subscribe and iot:Receive have the topics under $aws/things/")
		}
		if x, ok := actionNamed(a.text); ok && x.kind == "*" && !s.notAction && !slices.ContainsFunc(s.resources, func(r arn) bool { return r.text == "*" }) {
			l.find(Trap, s, "list-needs-star", fmt.Sprintf("%s is about no resource in particular", x.name), `give it a statement of its own with "Resource": "*"`)
		}
	}
}

// kinds looks for resources of a kind that the action is never asked for.
func (l *linter) kinds(s *statement) {
	if s.notResource {
		if s.ref.Allow {
			l.find(Note, s, "allow-not-resource", "it allows everything but what it names", "name what is needed in Resource")
		}
		return
	}
	for _, a := range s.about() {
		if !s.named(a.name) || slices.ContainsFunc(s.resources, func(r arn) bool { return r.mayBe(a.kind) }) {
			continue
		}
		code := "wrong-kind"
		if a.name == ActionSubscribe {
			code = "topic-for-topicfilter"
		}
		does := "allows"
		if !s.ref.Allow {
			does = "denies"
		}
		l.find(Trap, s, code, fmt.Sprintf("it %s no %s: that is asked for %s/, and the statement has only %s", does, a.name, a.kind, s.resources[0].name),
			fmt.Sprintf("add the resource with %s/", a.kind))
	}
}

// mayBe reports whether a pattern may match resources of a kind.
func (r *arn) mayBe(kind string) bool {
	begin := ""
	for _, t := range r.rest {
		if t.kind != literal {
			// What the pattern begins with has to begin the kind, or the other way round.
			return strings.HasPrefix(kind+"/", begin) || strings.HasPrefix(begin, kind+"/")
		}
		begin += t.text
	}
	return strings.HasPrefix(begin, kind+"/")
}

// names looks for what is wrong in the names of resources.
func (l *linter) names(s *statement) {
	for _, r := range s.resources {
		for _, name := range r.rest.variables() {
			l.variable(s, name)
		}
		if strings.Contains(r.text, "$(") {
			l.find(Trap, s, "round-brackets", fmt.Sprintf("%s: $( ) is no variable and no escape", r.name), "write ${...} with braces")
		}
		if strings.HasPrefix(r.name, "topic/") && strings.ContainsAny(r.name, "+#") {
			l.find(Trap, s, "wildcard-in-topic", fmt.Sprintf("%s: + and # are letters in a policy, and no topic has them", r.name), "use * for any characters")
		}
		if strings.Contains(r.text, ":123456789012:") {
			l.find(Note, nil, "example-account", "123456789012 is the account of AWS's examples", "put your own in; aws sts get-caller-identity prints it")
		}
	}
}

func (l *linter) variable(s *statement, name string) {
	known, ok := canonical(name)
	switch {
	case !ok && nearest(name) != "":
		l.find(Trap, s, "unknown-variable", fmt.Sprintf("${%s} is no documented variable, so it is not replaced", name), fmt.Sprintf("did you mean ${%s}", nearest(name)))
	case !ok:
		l.find(Trap, s, "unknown-variable", fmt.Sprintf("${%s} is no documented variable, so it is not replaced", name), "see the guide's page \"AWS IoT Core policy variables\"")
	case strings.HasSuffix(known, ".List") || known == keyConnect:
		l.find(Trap, s, "list-variable", fmt.Sprintf("${%s} is a list and is not replaced", name), "use it as the key of a condition, or name one value by its index")
	}
}

// conditions looks for conditions that hold where nobody thinks of them.
func (l *linter) conditions(s *statement) {
	for _, c := range s.conditions {
		known, ok := canonical(c.key)
		list := known == keyConnect || strings.HasSuffix(known, ".List") || strings.HasSuffix(known, ".AvailableKeys")
		switch {
		case !ok:
			advice := "see the guide's page \"AWS IoT Core policy variables\""
			if near := nearest(c.key); near != "" {
				advice = "did you mean " + near
			}
			l.find(Trap, s, "unknown-key", fmt.Sprintf("the condition's key %s is not documented for AWS IoT Core; it is always absent", c.key), advice)
		case c.all && s.ref.Allow && known != keyConnect:
			l.find(Trap, s, "forallvalues-absent", fmt.Sprintf("%s holds where %s has no value at all", c.operator, c.key), "use ForAnyValue, or add a condition Null false on the key")
		case c.all && !s.ref.Allow && !c.test.not:
			l.find(Trap, s, "deny-forallvalues-absent", fmt.Sprintf("%s denies also where %s has no value at all", c.operator, c.key), "use ForAnyValue in a Deny")
		case list && !c.all && !c.any && c.test.kind != "null":
			l.find(Trap, s, "list-needs-set", fmt.Sprintf("%s is a list, and %s compares one value", c.key, c.operator), "put ForAnyValue: or ForAllValues: before the operator")
		}
		for _, o := range c.values {
			for _, name := range o.pattern.variables() {
				l.variable(s, name)
			}
		}
	}
}

// broad looks for statements that allow all there is.
func (l *linter) broad(s *statement) {
	if !s.ref.Allow || s.notAction || s.notResource || len(s.conditions) > 0 {
		return
	}
	everything := slices.ContainsFunc(s.actions, func(a named) bool { return a.text == "*" || strings.EqualFold(a.text, "iot:*") })
	if everything && slices.ContainsFunc(s.resources, func(r arn) bool { return r.anything("") }) {
		l.find(Trap, s, "allows-everything", "it allows everything: whoever has this certificate may read and send whatever any device does", "fieldpost policy generate prints what is needed")
	}
}

// anything reports whether a pattern takes any name of a kind, such as "client".
func (r *arn) anything(kind string) bool {
	return r.text == "*" || r.name == "*" || r.name == kind+"/*"
}

// connects looks at who may connect.
func (l *linter) connects(s *statement) {
	if !s.ref.Allow || s.notResource || !s.does(&question{action: strings.ToLower(ActionConnect)}) {
		return
	}
	attached := slices.ContainsFunc(s.conditions, func(c condition) bool { return strings.EqualFold(c.key, keyAttached) })
	for _, r := range s.resources {
		if !r.mayBe("client") {
			continue
		}
		named := strings.ToLower(r.name)
		switch {
		case attached:
		case r.anything("client"), named == "client/${iot:clientid}":
			l.find(Trap, s, "connect-any", fmt.Sprintf("any client id may connect (%s), also that of another device, which is then disconnected", r.name),
				"name the client ids, or use client/${iot:Connection.Thing.ThingName}")
		case strings.Contains(named, "${iot:connection.thing."):
			l.find(Note, s, "not-attached", fmt.Sprintf("%s is also replaced for a certificate that is not attached to that thing", r.name), `add the condition "Bool": {"iot:Connection.Thing.IsAttached": "true"}`)
		}
		l.attributes(s, r)
	}
}

// attributes looks whether a session may be kept and a will be left.
func (l *linter) attributes(s *statement, r arn) {
	id, ok := l.sample(r.rest)
	if id, ok2 := strings.CutPrefix(id, "client/"); ok && ok2 {
		by := *l.by
		by.ClientID = id
		by.Thing = &Thing{Name: id, Attached: true}
		clean := l.policy.Connect(&by).Allowed
		if !clean {
			return
		}
		by.ConnectAttributes = []string{PersistentConnect}
		if !l.policy.Connect(&by).Allowed {
			l.find(Trap, s, "no-persistent-session", "a client that asks for a persistent session (clean session false, as fieldpost and the tutorial do) may not connect", "allow PersistentConnect in the condition on iot:ConnectAttributes")
		}
		by.ConnectAttributes, by.LastWillTopic = []string{LastWill}, "x"
		if !l.policy.Connect(&by).Allowed {
			l.find(Note, s, "no-will", "a client that leaves a will may not connect", "allow LastWill in the condition on iot:ConnectAttributes, or leave none (broker.will: none)")
		}
	}
}

// sample gives one text that a pattern matches; not ok where a variable has no
// value.
func (l *linter) sample(p pattern) (string, bool) {
	filled, missing := p.fill(&question{by: l.by})
	var b strings.Builder
	for _, t := range filled {
		switch t.kind {
		case literal:
			b.WriteString(t.text)
		default:
			b.WriteString("x")
		}
	}
	return b.String(), missing == ""
}

// clientIDs looks for filters made of a client id that may be a wildcard.
func (l *linter) clientIDs(s *statement) {
	if !s.ref.Allow || s.notResource || !s.does(&question{action: strings.ToLower(ActionSubscribe)}) {
		return
	}
	for _, r := range s.resources {
		if !slices.ContainsFunc(r.rest.variables(), func(v string) bool { return strings.EqualFold(v, keyClientID) }) || !r.mayBe("topicfilter") {
			continue
		}
		for _, id := range []string{"+", "#"} {
			if l.policy.Connect(&Connection{ClientID: id}).Allowed {
				l.find(Trap, s, "client-id-wildcard", fmt.Sprintf("a client may connect as %q, and then %s is a filter for every client's topics", id, r.name),
					"let iot:Connect allow only the client ids that there are")
				break
			}
		}
	}
}

// slips looks for denied filters that a wider filter reads all the same.
func (l *linter) slips(s *statement) {
	if s.ref.Allow || s.notResource || !s.does(&question{action: strings.ToLower(ActionSubscribe)}) {
		return
	}
	for _, r := range s.resources {
		name, ok := l.sample(r.rest)
		topic, filter := strings.CutPrefix(name, "topicfilter/")
		if !ok || !filter || strings.ContainsAny(topic, "+#") {
			continue
		}
		if wide := l.around(topic); wide != "" {
			l.find(Trap, s, "deny-slips", fmt.Sprintf("the subscription %s is allowed and brings what %s is to keep away", wide, r.name),
				"deny iot:Receive on the topics as well; a Deny of iot:Subscribe sees the filter as text only")
		}
	}
}

// around finds an allowed filter with a wildcard that brings a topic which may be
// received.
func (l *linter) around(topic string) string {
	if !l.policy.Receive(l.by, topic).Allowed {
		return ""
	}
	levels := strings.Split(topic, "/")
	levels = levels[:min(len(levels), TopicSlashes+8)]
	try := func(filter string) bool { return l.policy.Subscribe(l.by, filter).Allowed }
	for i := len(levels) - 1; i >= 0; i-- {
		if f := strings.Join(append(slices.Clone(levels[:i]), "#"), "/"); try(f) {
			return f
		}
		f := slices.Clone(levels)
		f[i] = "+"
		if f := strings.Join(f, "/"); try(f) {
			return f
		}
	}
	return ""
}

// whole looks at the policies together.
func (l *linter) whole() {
	does := func(name string) bool {
		return slices.ContainsFunc(l.policy.statements, func(s *statement) bool {
			return s.ref.Allow && s.does(&question{action: strings.ToLower(name)})
		})
	}
	if !does(ActionConnect) {
		l.find(Trap, nil, "no-connect", "nothing allows iot:Connect, and without a connection nothing else counts", "allow iot:Connect on client/ID")
	}
	if does(ActionSubscribe) && !does(ActionReceive) {
		l.find(Trap, nil, "no-receive", "iot:Subscribe is allowed and iot:Receive is not: the subscription is granted and nothing arrives", "allow iot:Receive on the topics")
	}
	if does(ActionRetainPublish) && !does(ActionPublish) {
		l.find(Trap, nil, "no-publish", "iot:RetainPublish is allowed and iot:Publish is not; a retained message needs both", "allow iot:Publish on the topics")
	}
	open := slices.ContainsFunc(l.out, func(f Finding) bool { return f.Code == "allows-everything" })
	if f := "$aws/things/+/shadow/update"; !open && l.policy.Subscribe(l.by, f).Allowed {
		l.find(Trap, nil, "shadows-of-all", fmt.Sprintf("it lets a client subscribe to the shadows of all things (%s)", f), "name the thing: $aws/things/${iot:Connection.Thing.ThingName}/*")
	}
	const create = "$aws/certificates/create"
	if l.policy.Publish(l.by, create+"/json", false).Allowed && !l.policy.Publish(l.by, create+"-from-csr/json", false).Allowed {
		l.find(Note, nil, "claim-without-csr", "certificates may be asked for, but not with a key made on the board ("+create+"-from-csr/)", "allow "+create+"-from-csr/* as well")
	}
	seen := map[[2]string]bool{}
	for _, s := range l.policy.statements {
		key := [2]string{s.ref.Policy, s.ref.Sid}
		if s.ref.Sid != "" && seen[key] {
			l.find(Note, s, "sid-twice", fmt.Sprintf("the Sid %q comes twice", s.ref.Sid), "give each statement a Sid of its own")
		}
		seen[key] = true
	}
}
