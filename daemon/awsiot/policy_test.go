package awsiot

import (
	"strings"
	"testing"
)

func mustParse(t *testing.T, statements string) *Policy {
	t.Helper()
	p, err := Parse([]byte(policyOf(statements)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTutorial(t *testing.T) {
	p := Tutorial()
	for _, tc := range []struct {
		action, resource string
		want             Decision
	}{
		{"iot:Connect", "client/test-pub", Decision{Allowed: true, Statement: 1}},
		{"iot:Connect", "client/thing-greenhouse", Decision{Allowed: true, Statement: 1}},
		{"iot:Connect", "client/thing", Decision{}},
		{"iot:Connect", "client/a-test-pub", Decision{}},
		{"iot:Connect", "client/Test-pub", Decision{}},
		{"iot:Publish", "topic/test/topic", Decision{Allowed: true, Statement: 2}},
		{"iot:Receive", "topic/test/topic", Decision{Allowed: true, Statement: 2}},
		{"iot:Publish", "topic/test/topic/answers", Decision{}},
		{"iot:Publish", "topic/Test/topic", Decision{}},
		{"iot:RetainPublish", "topic/test/topic", Decision{}},
		{"iot:Subscribe", "topicfilter/test/topic", Decision{Allowed: true, Statement: 3}},
		{"iot:Subscribe", "topicfilter/test/#", Decision{}},
		{"iot:Subscribe", "topicfilter/test/+", Decision{}},
		{"iot:Subscribe", "topic/test/topic", Decision{}},
		{"iot:Publish", "arn:aws:iot:eu-west-1:123456789012:topic/test/topic", Decision{Allowed: true, Statement: 2}},
		{"iot:Publish", "arn:aws-cn:iot:cn-north-1:123456789012:topic/test/topic", Decision{}},
		{"iot:Publish", "arn:aws:sns:eu-west-1:123456789012:topic/test/topic", Decision{}},
		{"", "", Decision{}},
	} {
		if got := p.Allows(tc.action, tc.resource, Vars{ClientID: "thing-1"}); got != tc.want {
			t.Errorf("%s on %s: got %v, want %v", tc.action, tc.resource, got, tc.want)
		}
	}
}

func TestDenyWins(t *testing.T) {
	const allow = `{"Effect":"Allow","Action":"iot:Publish","Resource":"*"}`
	const deny = `{"Effect":"Deny","Action":"iot:*","Resource":"arn:aws:iot:*:*:topic/secret/*"}`
	for order, statements := range map[string]string{"allow first": allow + "," + deny, "deny first": deny + "," + allow} {
		p := mustParse(t, "["+statements+"]")
		d := p.Allows("iot:Publish", "topic/secret/a/b", Vars{})
		if d.Allowed || !d.Explicit {
			t.Errorf("%s: %+v", order, d)
		}
		if d := p.Allows("iot:Publish", "topic/open", Vars{}); !d.Allowed {
			t.Errorf("%s: %+v", order, d)
		}
		if d := p.Allows("iot:Receive", "topic/open", Vars{}); d != (Decision{}) {
			t.Errorf("%s: what nobody allows is %+v", order, d)
		}
	}
}

func TestFirstAllowIsNamed(t *testing.T) {
	p := mustParse(t, `[{"Effect":"Allow","Action":"iot:Connect","Resource":"*"},
		{"Effect":"Allow","Action":"iot:*","Resource":"*"}, {"Effect":"Allow","Action":"*","Resource":"*"}]`)
	if d := p.Allows("iot:Publish", "topic/a", Vars{}); d.Statement != 2 {
		t.Errorf("got %v", d)
	}
}

func TestNobodyAsked(t *testing.T) {
	var none *Policy
	for _, p := range []*Policy{none, {}} {
		if d := p.Allows("iot:Connect", "client/x", Vars{ClientID: "x"}); d != (Decision{}) {
			t.Errorf("%v allows: %v", p, d)
		}
	}
}

func TestDecisionString(t *testing.T) {
	for d, want := range map[Decision]string{
		{Allowed: true, Statement: 3}:  "allowed by statement 3",
		{Explicit: true, Statement: 1}: "denied by statement 1",
		{}:                             "allowed by no statement",
	} {
		if d.String() != want {
			t.Errorf("got %q, want %q", d, want)
		}
	}
}

func TestResources(t *testing.T) {
	const front = "arn:aws:iot:*:*:"
	for _, tc := range []struct {
		pattern, resource string
		vars              Vars
		want              bool
	}{
		// * takes anything, a slash and nothing included; ? takes one character.
		{front + "topic/a/*", "topic/a/b/c", Vars{}, true},
		{front + "topic/a/*", "topic/a/", Vars{}, true},
		{front + "topic/a/*", "topic/a", Vars{}, false},
		{front + "topic/*/z", "topic/a/b/z", Vars{}, true},
		{front + "topic/*/z", "topic/a/z/y", Vars{}, false},
		{front + "topic/a*b*c", "topic/a-b-b-c", Vars{}, true},
		{front + "topic/a*b*c", "topic/a-c-b", Vars{}, false},
		{front + "topic/a?c", "topic/abc", Vars{}, true},
		{front + "topic/a?c", "topic/a/c", Vars{}, true},
		{front + "topic/a?c", "topic/ac", Vars{}, false},
		{front + "topic/a?c", "topic/aéc", Vars{}, true},
		{front + "topic/?", "topic/", Vars{}, false},
		{"*", "topic/anything/at/all", Vars{}, true},
		// MQTT's wildcards are letters like any other.
		{front + "topicfilter/a/+", "topicfilter/a/+", Vars{}, true},
		{front + "topicfilter/a/+", "topicfilter/a/b", Vars{}, false},
		{front + "topicfilter/a/#", "topicfilter/a/#", Vars{}, true},
		{front + "topicfilter/a/#", "topicfilter/a/b", Vars{}, false},
		{front + "topicfilter/a/*", "topicfilter/a/#", Vars{}, true},
		// A dollar alone is a dollar; a colon in a name is the name's.
		{front + "topic/$aws/things/*", "topic/$aws/things/x", Vars{}, true},
		{front + "client/a:b", "client/a:b", Vars{}, true},
		// Escapes.
		{front + "topic/${*}${?}${$}", "topic/*?$", Vars{}, true},
		{front + "topic/${*}", "topic/x", Vars{}, false},
		// Variables, and their values taken literally.
		{front + "client/${iot:ClientId}", "client/x", Vars{ClientID: "x"}, true},
		{front + "client/${iot:ClientId}", "client/y", Vars{ClientID: "x"}, false},
		{front + "client/${iot:ClientId}", "client/y", Vars{ClientID: "*"}, false},
		{front + "client/${iot:ClientId}", "client/y", Vars{ClientID: "?"}, false},
		{front + "client/${iot:ClientId}", "client/", Vars{}, false},
		{front + "topic/${iot:Connection.Thing.ThingName}/*", "topic/t/a", Vars{ThingName: "t"}, true},
		{front + "topic/${iot:Connection.Thing.ThingName}/*", "topic/t/a", Vars{ClientID: "t"}, false},
		{front + "topic/${iot:Connection.Thing.ThingName}/*", "topic//a", Vars{}, false},
		// Region and account, where they are asked for.
		{"arn:aws:iot:eu-*:*:topic/a", "arn:aws:iot:eu-west-1:1:topic/a", Vars{}, true},
		{"arn:aws:iot:eu-*:*:topic/a", "arn:aws:iot:us-east-1:1:topic/a", Vars{}, false},
		{"arn:aws:iot:eu-west-1:12:topic/a", "arn:aws:iot:eu-west-1:123:topic/a", Vars{}, false},
		{"arn:aws:iot:eu-west-1:12:topic/a", "topic/a", Vars{}, true},
		{"arn:aws:iot:*:1:topic/a", "arn:aws:iot:x:y:1:topic/a", Vars{}, false},
	} {
		p := mustParse(t, `{"Effect":"Allow","Action":"*","Resource":"`+tc.pattern+`"}`)
		if d := p.Allows("iot:Any", tc.resource, tc.vars); d.Allowed != tc.want {
			t.Errorf("%s on %s with %+v: %v", tc.pattern, tc.resource, tc.vars, d)
		}
	}
}

func TestActions(t *testing.T) {
	for _, tc := range []struct {
		pattern, action string
		want            bool
	}{
		{"iot:Publish", "iot:Publish", true},
		{"iot:publish", "iot:Publish", true},
		{"iot:Publish", "iot:RetainPublish", false},
		{"iot:*Publish", "iot:RetainPublish", true},
		{"iot:*", "iot:Connect", true},
		{"iotjobsdata:*", "iot:Connect", false},
		{"*", "iot:Connect", true},
	} {
		p := mustParse(t, `{"Effect":"Allow","Action":["`+tc.pattern+`"],"Resource":["*"]}`)
		if d := p.Allows(tc.action, "topic/a", Vars{}); d.Allowed != tc.want {
			t.Errorf("%s for %s: %v", tc.pattern, tc.action, d)
		}
	}
}

// A pattern of many stars against a long topic must not take for ever: an
// exponential matcher would never come back from this one.
func TestManyStars(t *testing.T) {
	p := mustParse(t, `{"Effect":"Allow","Action":"*","Resource":"arn:aws:iot:*:*:`+strings.Repeat("a*", 200)+`b"}`)
	if d := p.Allows("iot:Publish", strings.Repeat("a", 64*1024), Vars{}); d.Allowed {
		t.Errorf("got %v", d)
	}
}

// FuzzMatches compares the matcher with the definition, written the slow way.
func FuzzMatches(f *testing.F) {
	f.Add("a*b?c", "aXXbYc")
	f.Add("**?", "é")
	f.Add("${iot:ClientId}*", "\xff\xfe")
	f.Fuzz(func(t *testing.T, glob, s string) {
		if len(glob) > 12 || len(s) > 24 {
			return
		}
		p, err := compile(glob)
		if err != nil {
			return
		}
		p, ok := p.fill(Vars{ClientID: "*", ThingName: "?"})
		if !ok {
			t.Fatal("a variable with a value was not filled")
		}
		if got, want := p.matches(s), slow(p, s); got != want {
			t.Errorf("%q on %q: got %v, want %v", glob, s, got, want)
		}
	})
}

func slow(p pattern, s string) bool {
	if len(p) == 0 {
		return s == ""
	}
	if p[0].kind == anyN {
		for i := range s {
			if slow(p[1:], s[i:]) {
				return true
			}
		}
		return slow(p[1:], "")
	}
	n, ok := p[0].step(s)
	return ok && slow(p[1:], s[n:])
}

func TestCheckTopic(t *testing.T) {
	for topic, want := range map[string]string{
		"test/topic":                                "",
		"":                                          "is empty",
		"1/2/3/4/5/6/7/8":                           "",
		"1/2/3/4/5/6/7/8/9":                         "8 slashes",
		strings.Repeat("x", TopicMax):               "",
		strings.Repeat("x", TopicMax+1):             "257 bytes",
		strings.Repeat("é", TopicMax/2):             "",
		strings.Repeat("é", 1+TopicMax/2):           "258 bytes",
		"$aws/rules/store/1/2/3/4/5/6/7/8":          "",
		"$aws/rules/store/1/2/3/4/5/6/7/8/9":        "8 slashes",
		"$aws/rules/s/" + strings.Repeat("x", 256):  "",
		"$aws/things/thing-1/shadow/name/n/get/x/y": "8 slashes",
	} {
		err := CheckTopic(topic)
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: got %v, want %q", topic, err, want)
		}
	}
}

func TestCheckClientID(t *testing.T) {
	for id, want := range map[string]string{
		"thing-1":                          "",
		"":                                 "is empty",
		"$x":                               "begins with a $",
		strings.Repeat("x", ClientIDMax):   "",
		strings.Repeat("é", ClientIDMax):   "256 bytes",
		strings.Repeat("x", ClientIDMax+1): "129 bytes",
	} {
		err := CheckClientID(id)
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: got %v, want %q", id, err, want)
		}
	}
}
