package awsiot

import (
	"slices"
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
		{"iot:Connect", "client/test-pub", Decision{Allowed: true, Statement: Statement{Number: 1}}},
		{"iot:Connect", "client/thing-greenhouse", Decision{Allowed: true, Statement: Statement{Number: 1}}},
		{"iot:Connect", "client/thing", Decision{}},
		{"iot:Connect", "client/a-test-pub", Decision{}},
		{"iot:Connect", "client/Test-pub", Decision{}},
		{"iot:Publish", "topic/test/topic", Decision{Allowed: true, Statement: Statement{Number: 2}}},
		{"iot:Receive", "topic/test/topic", Decision{Allowed: true, Statement: Statement{Number: 2}}},
		{"iot:Publish", "topic/test/topic/answers", Decision{}},
		{"iot:Publish", "topic/Test/topic", Decision{}},
		{"iot:RetainPublish", "topic/test/topic", Decision{}},
		{"iot:Subscribe", "topicfilter/test/topic", Decision{Allowed: true, Statement: Statement{Number: 3}}},
		{"iot:Subscribe", "topicfilter/test/#", Decision{}},
		{"iot:Subscribe", "topicfilter/test/+", Decision{}},
		{"iot:Subscribe", "topic/test/topic", Decision{}},
		{"iot:Publish", "arn:aws:iot:eu-west-1:123456789012:topic/test/topic", Decision{Allowed: true, Statement: Statement{Number: 2}}},
		{"iot:Publish", "arn:aws-cn:iot:cn-north-1:123456789012:topic/test/topic", Decision{}},
		{"iot:Publish", "arn:aws:sns:eu-west-1:123456789012:topic/test/topic", Decision{}},
		{"", "", Decision{}},
	} {
		got := p.Decide(Request{tc.action, tc.resource, &Connection{ClientID: "thing-1"}})
		if got.Allowed != tc.want.Allowed || got.Explicit || got.Statement.Number != tc.want.Statement.Number || got.Inferred != nil {
			t.Errorf("%s on %s: got %v, want %v", tc.action, tc.resource, got, tc.want)
		}
	}
}

func TestDenyWins(t *testing.T) {
	const allow = `{"Effect":"Allow","Action":"iot:Publish","Resource":"*"}`
	const deny = `{"Effect":"Deny","Action":"iot:*","Resource":"arn:aws:iot:*:*:topic/secret/*"}`
	for order, statements := range map[string]string{"allow first": allow + "," + deny, "deny first": deny + "," + allow} {
		p := mustParse(t, "["+statements+"]")
		d := p.Decide(Request{Action: "iot:Publish", Resource: "topic/secret/a/b"})
		if d.Allowed || !d.Explicit {
			t.Errorf("%s: %+v", order, d)
		}
		if d := p.Decide(Request{Action: "iot:Publish", Resource: "topic/open"}); !d.Allowed {
			t.Errorf("%s: %+v", order, d)
		}
		if d := p.Decide(Request{Action: "iot:Receive", Resource: "topic/open"}); d.Allowed || d.Explicit || d.Statement != (Statement{}) {
			t.Errorf("%s: what nobody allows is %+v", order, d)
		}
	}
}

func TestFirstAllowIsNamed(t *testing.T) {
	p := mustParse(t, `[{"Effect":"Allow","Action":"iot:Connect","Resource":"*"},
		{"Effect":"Allow","Action":"iot:*","Resource":"*"}, {"Effect":"Allow","Action":"*","Resource":"*"}]`)
	if d := p.Decide(Request{Action: "iot:Publish", Resource: "topic/a"}); d.Statement.Number != 2 {
		t.Errorf("got %v", d)
	}
}

func TestNobodyAsked(t *testing.T) {
	var none *Policy
	for _, p := range []*Policy{none, {}} {
		if d := p.Connect(&Connection{ClientID: "x"}); d.Allowed || d.Explicit || d.Misses != nil {
			t.Errorf("%v allows: %v", p, d)
		}
	}
}

func TestDecisionString(t *testing.T) {
	at := Statement{Policy: "open.json", Number: 3, Line: 12}
	for want, d := range map[string]Decision{
		"allowed by statement 3 (open.json:12)":                                         {Allowed: true, Statement: at},
		`denied by statement 1 "Secrets" (line 4)`:                                      {Explicit: true, Statement: Statement{Number: 1, Line: 4, Sid: "Secrets"}},
		"allowed by no statement":                                                       {},
		"refused whatever the policy says: it is so":                                    {Limit: "it is so"},
		"allowed by no statement; nearest is statement 3 (open.json:12): another topic": {Misses: []Miss{{Statement: at, Reason: "another topic"}}},
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
		by                Connection
		want              bool
	}{
		// * takes anything, a slash and nothing included; ? takes one character.
		{front + "topic/a/*", "topic/a/b/c", Connection{}, true},
		{front + "topic/a/*", "topic/a/", Connection{}, true},
		{front + "topic/a/*", "topic/a", Connection{}, false},
		{front + "topic/*/z", "topic/a/b/z", Connection{}, true},
		{front + "topic/*/z", "topic/a/z/y", Connection{}, false},
		{front + "topic/a*b*c", "topic/a-b-b-c", Connection{}, true},
		{front + "topic/a*b*c", "topic/a-c-b", Connection{}, false},
		{front + "topic/a?c", "topic/abc", Connection{}, true},
		{front + "topic/a?c", "topic/a/c", Connection{}, true},
		{front + "topic/a?c", "topic/ac", Connection{}, false},
		{front + "topic/a?c", "topic/aéc", Connection{}, true},
		{front + "topic/?", "topic/", Connection{}, false},
		{"*", "topic/anything/at/all", Connection{}, true},
		// MQTT's wildcards are letters like any other.
		{front + "topicfilter/a/+", "topicfilter/a/+", Connection{}, true},
		{front + "topicfilter/a/+", "topicfilter/a/b", Connection{}, false},
		{front + "topicfilter/a/#", "topicfilter/a/#", Connection{}, true},
		{front + "topicfilter/a/#", "topicfilter/a/b", Connection{}, false},
		{front + "topicfilter/a/*", "topicfilter/a/#", Connection{}, true},
		// A dollar alone is a dollar; a colon in a name is the name's.
		{front + "topic/$aws/things/*", "topic/$aws/things/x", Connection{}, true},
		{front + "client/a:b", "client/a:b", Connection{}, true},
		// Escapes.
		{front + "topic/${*}${?}${$}", "topic/*?$", Connection{}, true},
		{front + "topic/${*}", "topic/x", Connection{}, false},
		// Variables, and their values taken literally.
		{front + "client/${iot:ClientId}", "client/x", Connection{ClientID: "x"}, true},
		{front + "client/${iot:ClientId}", "client/y", Connection{ClientID: "x"}, false},
		{front + "client/${iot:ClientId}", "client/y", Connection{ClientID: "*"}, false},
		{front + "client/${iot:ClientId}", "client/y", Connection{ClientID: "?"}, false},
		{front + "client/${iot:ClientId}", "client/", Connection{}, false},
		{front + "topic/${iot:Connection.Thing.ThingName}/*", "topic/t/a", Connection{ClientID: "t", Thing: &Thing{Name: "t", Attached: true}}, true},
		{front + "topic/${iot:Connection.Thing.ThingName}/*", "topic/t/a", Connection{ClientID: "t"}, false},
		{front + "topic/${iot:Connection.Thing.ThingName}/*", "topic//a", Connection{}, false},
		// Region and account, where they are asked for.
		{"arn:aws:iot:eu-*:*:topic/a", "arn:aws:iot:eu-west-1:1:topic/a", Connection{}, true},
		{"arn:aws:iot:eu-*:*:topic/a", "arn:aws:iot:us-east-1:1:topic/a", Connection{}, false},
		{"arn:aws:iot:eu-west-1:12:topic/a", "arn:aws:iot:eu-west-1:123:topic/a", Connection{}, false},
		{"arn:aws:iot:eu-west-1:12:topic/a", "topic/a", Connection{}, true},
		{"arn:aws:iot:*:1:topic/a", "arn:aws:iot:x:y:1:topic/a", Connection{}, false},
	} {
		p := mustParse(t, `{"Effect":"Allow","Action":"*","Resource":"`+tc.pattern+`"}`)
		if d := p.Decide(Request{"iot:Any", tc.resource, &tc.by}); d.Allowed != tc.want {
			t.Errorf("%s on %s with %+v: %v", tc.pattern, tc.resource, tc.by, d)
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
		if d := p.Decide(Request{Action: tc.action, Resource: "topic/a"}); d.Allowed != tc.want {
			t.Errorf("%s for %s: %v", tc.pattern, tc.action, d)
		}
	}
}

// A pattern of many stars against a long topic must not take for ever: an
// exponential matcher would never come back from this one.
func TestManyStars(t *testing.T) {
	p := mustParse(t, `{"Effect":"Allow","Action":"*","Resource":"arn:aws:iot:*:*:`+strings.Repeat("a*", 200)+`b"}`)
	if d := p.Decide(Request{Action: "iot:Publish", Resource: strings.Repeat("a", 64*1024)}); d.Allowed {
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
		p, err := compile(glob, true)
		if err != nil {
			return
		}
		p, _ = p.fill(&question{by: &Connection{ClientID: "*", Thing: &Thing{Name: "*"}}})
		if i := slices.IndexFunc(p, func(t token) bool { return t.kind == variable }); i >= 0 {
			t.Fatalf("variable %q was left as it is", p[i].text)
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
