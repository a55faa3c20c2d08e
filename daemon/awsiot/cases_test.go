package awsiot

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// The marks of a case: how sure it is. None has been tried on live AWS.
const (
	stated   = "documented" // a page of the developer guide says so
	rule     = "by a rule"  // a rule that a page states, applied to the page's example
	inferred = "inferred"   // follows from IAM's rules, to which the pages refer
)

const here = "arn:aws:iot:us-east-1:123456789012:"

// document makes a policy of lines such as
//
//	A Publish,Receive t:TN/* if FAV:CA=[PersistentConnect|LastWill] & Bool:IsAttached=[true]
//
// A and D are Allow and Deny, ! before the resources is NotResource.
func document(t *testing.T, lines string) *Policy {
	t.Helper()
	variables := strings.NewReplacer("CID", "${iot:ClientId}", "TN", "${iot:Connection.Thing.ThingName}")
	kinds := map[string]string{"c": "client/", "t": "topic/", "f": "topicfilter/"}
	long := func(s string) string {
		if kind, rest, ok := strings.Cut(s, ":"); ok && kinds[kind] != "" {
			s = here + kinds[kind] + rest
		}
		return variables.Replace(s)
	}
	keys := strings.NewReplacer("CA", "iot:ConnectAttributes", "CERT", "iot:Certificate.Subject", "THING", "iot:Connection.Thing")
	operators := map[string]string{"FAV": "ForAllValues:StringEquals", "FANY": "ForAnyValue:StringEquals", "FAVN": "ForAllValues:StringNotEquals"}
	var statements []map[string]any
	for line := range strings.SplitSeq(lines, ";") {
		line, cond, _ := strings.Cut(strings.TrimSpace(line), " if ")
		parts := strings.Fields(line)
		if len(parts) != 3 {
			t.Fatalf("what is %q", line)
		}
		s := map[string]any{"Effect": map[string]string{"A": "Allow", "D": "Deny"}[parts[0]]}
		var actions, resources []string
		for a := range strings.SplitSeq(parts[1], ",") {
			actions = append(actions, "iot:"+a)
		}
		s["Action"] = actions
		resource, not := strings.CutPrefix(parts[2], "!")
		for r := range strings.SplitSeq(resource, ",") {
			resources = append(resources, long(r))
		}
		s["Resource"] = resources
		if not {
			s["NotResource"] = resources
			delete(s, "Resource")
		}
		conditions := map[string]map[string][]string{}
		for c := range strings.SplitSeq(cond, " & ") {
			operator, rest, ok := strings.Cut(c, ":")
			if !ok {
				continue
			}
			if o := operators[operator]; o != "" {
				operator = o
			}
			key, list, _ := strings.Cut(rest, "=[")
			values := []string{}
			if list = strings.TrimSuffix(list, "]"); list != "" {
				for v := range strings.SplitSeq(list, "|") {
					values = append(values, long(v))
				}
			}
			if conditions[operator] == nil {
				conditions[operator] = map[string][]string{}
			}
			conditions[operator][keys.Replace(key)] = values
		}
		if len(conditions) > 0 {
			s["Condition"] = conditions
		}
		statements = append(statements, s)
	}
	text, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": statements})
	if err != nil {
		t.Fatal(err)
	}
	p, err := Parse(text)
	if err != nil {
		t.Fatalf("%s: %v", lines, err)
	}
	return p
}

// thing is a registered, attached thing that connects under its own name.
func thing(name string) *Connection {
	return &Connection{ClientID: name, Thing: &Thing{Name: name, Attached: true}}
}

func (c Connection) with(change func(*Connection)) *Connection {
	if c.Thing != nil {
		copied := *c.Thing
		c.Thing = &copied
	}
	change(&c)
	return &c
}

func attributes(names ...string) *Connection {
	return thing("thing1").with(func(c *Connection) { c.ConnectAttributes = names })
}

func certified(field string, values ...string) *Connection {
	return thing("thing1").with(func(c *Connection) {
		c.Certificate = &Certificate{ID: "c0ffee", Fields: map[string][]string{field: values}}
	})
}

// asking puts a case's question, "publish a/b", to a policy.
func asking(t *testing.T, p *Policy, by *Connection, question string) Decision {
	t.Helper()
	verb, what, _ := strings.Cut(question, " ")
	full := func(action, kind string) Decision {
		return p.Decide(Request{action, here + kind + "/" + what, by})
	}
	switch verb {
	case "connect":
		return p.Decide(Request{ActionConnect, here + "client/" + by.ClientID, by})
	case "publish":
		return full(ActionPublish, "topic")
	case "retain":
		return p.Publish(by, what, true)
	case "subscribe":
		return full(ActionSubscribe, "topicfilter")
	case "receive":
		return full(ActionReceive, "topic")
	case "list":
		return p.Decide(Request{"iot:ListRetainedMessages", "*", by})
	case "elsewhere":
		return p.Decide(Request{ActionPublish, "arn:aws:iot:eu-west-1:123456789012:topic/" + what, by})
	}
	t.Fatalf("what is %q", question)
	return Decision{}
}

// policyCase is one row of what AWS documents.
type policyCase struct {
	number   string
	mark     string
	policy   string
	by       *Connection
	question string
	want     bool
}

var policyCases = func() []policyCase {
	t1 := thing("thing1")
	plain := &Connection{ClientID: "client1"}
	named := func(id string) *Connection { return &Connection{ClientID: id} }
	unattached := t1.with(func(c *Connection) { c.Thing.Attached = false })
	const both, p, w = PersistentConnect + "|" + LastWill, PersistentConnect, LastWill
	const denyTwo = "D Connect c:client1,c:client2; A Connect c:TN"
	const favP, favW, favPW = "A Connect * if FAV:CA=[" + p + "]", "A Connect * if FAV:CA=[" + w + "]", "A Connect * if FAV:CA=[" + both + "]"
	const denyP = "D Connect * if FANY:CA=[" + p + "]"
	const will = "A Connect * if ArnEquals:iot:LastWillTopic=[t:my/lastwill/topicName]"
	leaving := func(topic string, attributes ...string) *Connection {
		return t1.with(func(c *Connection) {
			c.LastWillTopic, c.ConnectAttributes = topic, append(attributes, LastWill)
		})
	}
	const onlyBoth = favPW + "; D Connect * if FAV:CA=[" + p + "]; D Connect * if FAV:CA=[" + w + "]; D Connect * if FAV:CA=[]"
	const attached = "A Connect * if Bool:THING.IsAttached=[true]"
	const room = "A Subscribe f:TN/room*; A Receive t:TN/room*"
	const slips = "A Subscribe f:a/*; D Subscribe f:a/restricted/*"
	const update = "A Subscribe f:device/update; A Receive *; D Receive t:device/update"
	const bar = "A Publish t:CID/*; D Publish t:CID/bar"
	const sample = "t:device/sample/configuration"
	const cn = "A Publish t:${iot:Certificate.Subject.CommonName}"
	const third = "A Publish t:admin/* if StringEquals:CERT.CommonName.2=[Administrator]"
	const anyCN = "A Publish t:admin/TN if FANY:CERT.CommonName.List=[Administrator]"
	const org = "A Publish t:my/topic/TN if FAV:CERT.Organization.List=[Example Corp|AnyCompany]"
	const stats = "A Publish t:device/stats if StringEquals:THING.Attributes[a]=[v] & StringEquals:THING.ThingTypeName=[T] & Bool:THING.IsAttached=[true]"
	typed := t1.with(func(c *Connection) { c.Thing.Type, c.Thing.Attributes = "T", map[string]string{"a": "v"} })
	const building = "A Publish t:${iot:Connection.Thing.Attributes[building]}/*"
	inB1 := t1.with(func(c *Connection) { c.Thing.Attributes = map[string]string{"building": "b1"} })
	const range24 = "A Connect * if IpAddress:aws:SourceIp=[192.0.2.0/24]"
	from := func(ip string) *Connection {
		return plain.with(func(c *Connection) { c.SourceIP = netip.MustParseAddr(ip) })
	}
	const claim = "A Publish,Receive t:$aws/certificates/create/*,t:$aws/provisioning-templates/T/provision/*"
	const tutorial = "A Connect c:test-*,c:thing-*; A Publish,Receive t:test/topic; A Subscribe f:test/topic"
	return []policyCase{
		{"1", stated, "A Connect c:client1", plain, "connect", true},
		{"2", rule, "A Connect c:client1", named("client2"), "connect", false},
		{"3", stated, denyTwo, thing("client1"), "connect", false},
		{"4", stated, denyTwo, thing("sensor7"), "connect", true},
		{"5", stated, denyTwo, named("sensor7"), "connect", false},
		{"6", rule, denyTwo, thing("sensor7").with(func(c *Connection) { c.ClientID = "sensor8" }), "connect", false},
		{"7", stated, favP, attributes(p), "connect", true},
		{"8", inferred, favP, attributes(), "connect", true},
		{"9", rule, favP, attributes(p, w), "connect", false},
		{"10", stated, "A Connect * if FAVN:CA=[" + p + "]", attributes(), "connect", true},
		{"11", stated, "A Connect * if FAVN:CA=[" + p + "]", attributes(p), "connect", false},
		{"12", stated, "A Connect * if FAVN:CA=[" + p + "]", attributes(w), "connect", true},
		{"13", stated, "A Connect *; " + denyP, attributes(p), "connect", false},
		{"14", stated, "A Connect *; " + denyP, attributes(w), "connect", true},
		{"15", stated, "A Connect *; " + denyP, attributes("Later"), "connect", true},
		{"16", stated, favPW, attributes(p, w), "connect", true},
		{"17", inferred, favPW, attributes(p), "connect", true},
		{"18", stated, favPW, attributes(p, w, "Later"), "connect", false},
		{"19", stated, favW, attributes(w), "connect", true},
		{"20", stated, favW, attributes(), "connect", true},
		{"21", stated, favW, attributes(p), "connect", false},
		{"22", stated, "A Connect * if FAV:CA=[]", attributes(), "connect", true},
		{"23", stated, "A Connect * if FAV:CA=[]", attributes(p), "connect", false},
		{"24", stated, "A Connect * if FAV:CA=[]", attributes(w), "connect", false},
		{"25", stated, "A Connect * if FANY:CA=[" + p + "]", attributes(p, w), "connect", true},
		{"26", stated, "A Connect * if FANY:CA=[" + p + "]", attributes(), "connect", false},
		{"27", stated, onlyBoth, attributes(p, w), "connect", true},
		{"28", stated, onlyBoth, attributes(p), "connect", false},
		{"29", stated, onlyBoth, attributes(w), "connect", false},
		{"30", stated, onlyBoth, attributes(), "connect", false},
		{"31", stated, denyP + "; " + favW, attributes(w), "connect", true},
		{"32", stated, denyP + "; " + favW, attributes(p, w), "connect", false},
		{"33", stated, will, leaving("my/lastwill/topicName"), "connect", true},
		{"34", stated, will, leaving("my/other"), "connect", false},
		{"35", stated, will, t1, "connect", false},
		{"36", stated, will + "; " + denyP, leaving("my/lastwill/topicName"), "connect", true},
		{"37", stated, will + "; " + denyP, leaving("my/lastwill/topicName", p), "connect", false},
		{"38", stated, attached, t1, "connect", true},
		{"39", stated, attached, unattached, "connect", false},
		{"40", stated, "A Connect c:CID", named("whoever"), "connect", true},
		{"41", stated, "A Connect c:TN if Bool:THING.IsAttached=[true]", t1, "connect", true},

		{"42", stated, "A Publish t:TN/*", t1, "publish thing1/temp", true},
		{"43", rule, "A Publish t:TN/*", t1, "publish thing1/a/b/c", true},
		{"44", rule, "A Publish t:TN/*", t1, "publish thing2/temp", false},
		{"45", inferred, "A Publish t:TN/*", t1, "publish thing1", false},
		{"46", stated, "A Publish t:CID/*", plain, "publish client1/x", true},
		{"47", rule, "A Publish t:CID/*", plain, "publish client2/x", false},
		{"48", stated, room, t1, "subscribe thing1/room1", true},
		{"49", rule, room, t1, "subscribe thing1/room1/kitchen", true},
		{"50", rule, room, t1, "subscribe thing1/hall", false},
		{"51", stated, room, t1, "receive thing1/room2", true},
		{"52", rule, room, t1, "subscribe thing1/+", false},
		{"53", stated, slips, t1, "subscribe a/#", true},
		{"54", stated, slips, t1, "subscribe a/restricted/x", false},
		{"55", stated, slips + "; A Receive !t:a/restricted/*", t1, "receive a/restricted/x", false},
		{"56", stated, slips + "; A Receive !t:a/restricted/*", t1, "receive a/b", true},
		{"57", stated, update, t1, "subscribe device/update", true},
		{"58", stated, update, t1, "receive device/update", false},
		{"59", stated, "A Subscribe f:some/+/topic", t1, "subscribe some/+/topic", true},
		{"60", stated, "A Subscribe f:some/+/topic", t1, "subscribe some/x/topic", false},
		{"61", stated, "A Subscribe f:some/*/topic", t1, "subscribe some/string1/topic", true},
		{"62", rule, "A Subscribe f:some/*/topic", t1, "subscribe some/+/topic", true},
		{"63", rule, "A Subscribe f:some/*/topic", t1, "subscribe some/a/b/topic", true},
		{"64", rule, "A Subscribe f:some/*/topic", t1, "subscribe some/#", false},
		{"65", stated, "A Publish t:some/?????/topic", t1, "publish some/abcde/topic", true},
		{"66", rule, "A Publish t:some/?????/topic", t1, "publish some/abcd/topic", false},
		{"67", stated, "A Subscribe f:some/sensor???/topic", t1, "subscribe some/sensor001/topic", true},
		{"68", rule, "A Subscribe f:some/sensor???/topic", t1, "subscribe some/sensor01/topic", false},
		{"69", stated, "A Subscribe f:my/topic,f:my/othertopic", t1, "subscribe my/othertopic", true},
		{"70", rule, "A Subscribe f:my/topic,f:my/othertopic", t1, "subscribe my/topic2", false},
		{"71", stated, bar, plain, "publish client1/foo", true},
		{"72", stated, bar, plain, "publish client1/bar", false},
		{"73", rule, bar, plain, "publish client1/bar/x", true},
		{"74", rule, "A Connect *; A Subscribe f:my/topic; D Publish t:TN/bar", t1, "publish elsewhere", false},
		{"75", stated, "A Publish,Receive t:iotmonitor/provisioning/987654321098", t1, "publish iotmonitor/provisioning/987654321098", true},
		{"75", stated, "A Subscribe f:iotmonitor/provisioning/987654321098", t1, "subscribe iotmonitor/provisioning/987654321098", true},
		{"76", stated, "A Connect *; A Subscribe f:my/CID/topic", named("+"), "subscribe my/+/topic", true},
		{"77", stated, "A Connect c:clientid1; A Subscribe f:my/CID/topic", named("+"), "connect", false},
		{"78", stated, "A Publish t:my/topic/CID", plain, "publish my/topic/client1", true},
		{"79", stated, "A Publish t:TN", t1, "publish thing1", true},
		{"80", rule, "A Subscribe t:my/topic", t1, "subscribe my/topic", false},
		{"81", rule, "A Publish f:my/topic", t1, "publish my/topic", false},
		{"82", rule, "A Publish t:Test/topic", t1, "publish test/topic", false},
		{"83", rule, "A Publish t:x", t1, "elsewhere x", false},
		{"84", stated, "A Publish t:x", t1, "connect", false},
		{"85", "", "A Publish t:${iot:Thing.ThingName}", t1, "publish thing1", false},

		{"86", stated, "A Publish,RetainPublish " + sample, t1, "retain device/sample/configuration", true},
		{"87", rule, "A Publish " + sample, t1, "retain device/sample/configuration", false},
		{"88", stated, "A RetainPublish " + sample, t1, "retain device/sample/configuration", false},
		{"89", rule, "A Publish " + sample, t1, "publish device/sample/configuration", true},
		{"90", stated, favW + "; A Publish,RetainPublish t:will", leaving("will"), "connect", true},
		{"90", stated, favW + "; A Publish,RetainPublish t:will", leaving("will"), "retain will", true},
		{"91", stated, "A Publish,RetainPublish t:$aws/things/x", t1, "retain $aws/things/x", false},
		{"92", stated, "A ListRetainedMessages t:foo", t1, "list", false},

		{"93", stated, "A Publish t:${iot:CertificateId}", certified("Subject.CommonName"), "publish c0ffee", true},
		{"94", rule, "A Publish t:${iot:CertificateId}", certified("Subject.CommonName"), "publish decade", false},
		{"95", stated, cn, certified("Subject.CommonName", "dev9"), "publish dev9", true},
		{"96", rule, cn, certified("Subject.CommonName", "dev9"), "publish dev8", false},
		{"97", stated, cn, certified("Subject.CommonName", "dev*"), "publish dev*", false},
		{"98", stated, cn, certified("Subject.CommonName", strings.Repeat("x", 1025)), "publish " + strings.Repeat("x", 1025), false},
		{"99", stated, third, certified("Subject.CommonName", "a", "b", "Administrator"), "publish admin/x", true},
		{"100", stated, third, certified("Subject.CommonName", "Administrator"), "publish admin/x", false},
		{"101", stated, anyCN, certified("Subject.CommonName", "a", "Administrator"), "publish admin/thing1", true},
		{"102", rule, anyCN, certified("Subject.CommonName", "a"), "publish admin/thing1", false},
		{"103", rule, anyCN, certified("Subject.CommonName", "a", "b", "c", "d", "e", "Administrator"), "publish admin/thing1", false},
		{"104", stated, org, certified("Subject.Organization", "Example Corp"), "publish my/topic/thing1", true},
		{"105", inferred, org, certified("Subject.Organization", "Example Corp", "Other"), "publish my/topic/thing1", false},
		{"106", inferred, org, certified("Subject.CommonName", "a"), "publish my/topic/thing1", true},
		{"107", stated, "A Publish t:${iot:Certificate.Subject.Country}", certified("Subject.Country", "US", "DE"), "publish US", true},
		{"107", stated, "A Publish t:${iot:Certificate.Subject.Country.1}", certified("Subject.Country", "US", "DE"), "publish DE", true},
		{"107", stated, "A Publish t:${iot:Certificate.Subject.Country.2}", certified("Subject.Country", "US", "DE"), "publish DE", false},
		{"108", stated, stats, typed, "publish device/stats", true},
		{"109", rule, stats, typed.with(func(c *Connection) { c.Thing.Type = "U" }), "publish device/stats", false},
		{"110", rule, stats, typed.with(func(c *Connection) { c.Thing.Attached = false }), "publish device/stats", false},
		{"111", stated, building, inB1, "publish b1/x", true},
		{"112", stated, building, inB1.with(func(c *Connection) { c.Thing.Attached = false }), "publish b1/x", false},
		{"112", stated, building, t1, "publish b1/x", false},
		{"113", rule, range24, from("192.0.2.7"), "connect", true},
		{"114", rule, range24, from("198.51.100.1"), "connect", false},

		{"115", stated, "A Publish t:$aws/things/thing1/jobs/*", t1, "publish $aws/things/thing1/jobs/get", true},
		{"116", rule, "A Publish t:$aws/things/thing1/jobs/*", t1, "publish $aws/things/thing2/jobs/get", false},
		{"117", stated, "A UpdateJobExecution " + here + "thing/thing1", t1, "publish $aws/things/thing1/jobs/j/update", false},
		{"118", rule, "A Subscribe t:$aws/events/jobExecution/*", t1, "subscribe $aws/events/jobExecution/x", false},
		{"119", stated, claim, t1, "publish $aws/certificates/create/json", true},
		{"120", rule, claim, t1, "publish $aws/certificates/create-from-csr/json", false},
		{"121", stated, "A Publish t:$aws/things/TN/shadow/*", t1, "publish $aws/things/thing1/shadow/name/cfg/update", true},
		{"122", stated, "A Subscribe f:$aws/things/*", t1, "subscribe $aws/things/+/shadow/update", true},
		{"123", stated, "A Receive t:$aws/things/*", t1, "subscribe $aws/things/+/shadow/update", false},

		{"124", stated, tutorial, named("test-pub"), "connect", true},
		{"125", stated, tutorial, named("sensor-1"), "connect", false},
		{"126", stated, tutorial, t1, "publish test/topic", true},
		{"127", rule, tutorial, t1, "retain test/topic", false},
		{"128", rule, tutorial, t1, "publish test/topic/commands", false},
		{"129", rule, tutorial, t1, "subscribe test/#", false},
		{"130", rule, tutorial, t1, "subscribe test/+", false},
		{"131", rule, tutorial, t1, "publish $aws/things/thing-x/shadow/update", false},
	}
}()

// What AWS documents about policies, case by case. None has been tried on live AWS.
// An answer that is documented must not say that it was inferred.
func TestDocumentedCases(t *testing.T) {
	for _, tc := range policyCases {
		t.Run(fmt.Sprintf("%s_%s", tc.number, tc.mark), func(t *testing.T) {
			p := document(t, tc.policy)
			d := asking(t, p, tc.by, tc.question)
			if d.Allowed != tc.want {
				t.Errorf("%s\n%s by %+v: %v", tc.policy, tc.question, tc.by, d)
			}
			if (tc.mark == stated || tc.mark == rule) && len(d.Inferred) > 0 {
				t.Errorf("documented, but said to be inferred: %q", d.Inferred)
			}
			if !d.Allowed && !d.Explicit && d.Limit == "" && len(d.Misses) == 0 && strings.Contains("; "+tc.policy, "; A ") {
				t.Errorf("no near miss")
			}
		})
	}
	seen := map[string]bool{}
	for _, tc := range policyCases {
		seen[tc.number] = true
	}
	for n := range 131 {
		if !seen[fmt.Sprint(n+1)] {
			t.Errorf("case %d is missing", n+1)
		}
	}
}

// Answers that rest on a rule of IAM say so.
func TestInferredIsSaid(t *testing.T) {
	t1 := thing("thing1")
	for name, tc := range map[string]struct {
		policy   string
		by       *Connection
		question string
		want     bool
		says     string
	}{
		"ForAllValues on nothing": {"A Publish t:a if FAV:CERT.Organization.List=[X]", certified("Subject.CommonName", "a"), "publish a", true, "ForAllValues holds where iot:Certificate.Subject.Organization.List is absent"},
		"part of an action":       {"A Pub* t:a", t1, "publish a", true, "an action may be iot:Pub*"},
		"action in lower case":    {"A publish t:a", t1, "publish a", true, "may be written iot:publish"},
		"escape":                  {"A Publish t:a${*}", t1, "publish a*", true, "the escapes ${*}"},
		"unknown variable":        {"A Publish !t:${aws:Nothing}", t1, "publish a", true, "in NotResource ${aws:Nothing} has no value"},
		"unknown key denies not":  {"A Publish *; D Publish * if StringEquals:aws:Nothing=[x]", t1, "publish a", true, "aws:Nothing is not documented"},
		"unknown key":             {"A Publish * if StringEquals:aws:Nothing=[x]", t1, "publish a", false, "aws:Nothing is not documented"},
		"key in lower case":       {"A Publish * if StringEquals:iot:clientid=[thing1]", t1, "publish a", true, "iot:clientid is taken as iot:ClientId"},
		"list as one value":       {"A Connect * if StringEquals:CA=[" + LastWill + "]", attributes(LastWill), "connect", true, "is taken as ForAnyValue"},
		"time":                    {"A Connect * if DateGreaterThan:aws:CurrentTime=[2020-01-01T00:00:00Z]", t1, "connect", false, "aws:CurrentTime is IAM's"},
		"not attached":            {"A Publish t:TN", t1.with(func(c *Connection) { c.Thing.Attached = false }), "publish thing1", true, "not attached to"},
	} {
		t.Run(name, func(t *testing.T) {
			d := asking(t, document(t, tc.policy), tc.by, tc.question)
			if d.Allowed != tc.want || !slices.ContainsFunc(d.Inferred, func(s string) bool { return strings.Contains(s, tc.says) }) {
				t.Errorf("%v, inferred %q; want %v and %q", d, d.Inferred, tc.want, tc.says)
			}
		})
	}
}

// What does not bear on an answer is not said to have been inferred.
func TestInferredOnlyWhereItBears(t *testing.T) {
	for policy, question := range map[string]string{
		"A Publish * if StringEquals:aws:Nothing=[x]; A Publish t:a": "publish a", // another statement allows it
		"A Publish *; A Pub* t:b":                                    "publish b",
		"A Publish t:a; D Pub* t:b":                                  "publish a",
		"D Publish t:a; D Publish t:a if StringEquals:aws:N=[x]":     "publish a",
	} {
		if d := asking(t, document(t, policy), thing("thing1"), question); len(d.Inferred) > 0 {
			t.Errorf("%s: %v, inferred %q", policy, d, d.Inferred)
		}
	}
}
