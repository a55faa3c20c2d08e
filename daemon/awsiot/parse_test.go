package awsiot

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// policyOf wraps statements into a document.
func policyOf(statements string) string {
	return `{"Version":"2012-10-17","Statement":` + statements + `}`
}

func TestParseRefuses(t *testing.T) {
	const good = `"Effect":"Allow","Action":"iot:Connect"`
	const all = `"Effect":"Allow","Action":"*","Resource":"*"`
	for name, tc := range map[string]struct{ document, want string }{
		"nothing":              {``, "p:1:1: is empty"},
		"white space":          {" \n ", "p:1:1: is empty"},
		"byte order mark":      {"\xef\xbb\xbf" + policyOf(`{`+all+`}`), "p:1:1: begins with a byte order mark; save it as UTF-8 without one"},
		"broken on line 3":     {"{\n\"Version\":\n é!}", "p:3:2: is not JSON: invalid character 'é'"},
		"cut off":              {"{\"Version\":\"2012-10-17\",\n\"Statement\":[", "p:2:14: is not JSON: unexpected end of JSON input"},
		"two documents":        {policyOf(`[]`) + `{}`, "p:1:40: is not JSON: invalid character '{' after top-level value"},
		"a comma too many":     {policyOf(`{` + all + `,}`), "is not JSON: invalid character '}'"},
		"not UTF-8":            {"{\"Version\":\"\xff\"}", "p:1:13: the text is not UTF-8"},
		"half a surrogate":     {`{"Version":"\ud800"}`, "p:1:12: holds half of a surrogate pair"},
		"a surrogate key":      {`{"Version\udc00":1}`, "p:1:2: holds half of a surrogate pair"},
		"not an object":        {`[]`, "p:1:1: want an object (got a list)"},
		"null":                 {`null`, "p:1:1: want an object (got null)"},
		"no version":           {`{"Statement":{` + all + `}}`, `p:1:1: has no "Version"; want "Version": "2012-10-17"`},
		"old version":          {`{"Version":"2008-10-17"}`, `p:1:12: Version: want "2012-10-17" (got "2008-10-17", in which variables are not replaced)`},
		"other version":        {`{"Version":"2026-11-28"}`, `Version: want "2012-10-17" (got "2026-11-28")`},
		"version a number":     {`{"Version":2012}`, `Version: want "2012-10-17" (got 2012)`},
		"version null":         {`{"Version":null}`, `Version: want "2012-10-17" (got null)`},
		"no statement":         {`{"Version":"2012-10-17"}`, `p:1:1: has no "Statement"`},
		"empty statement":      {policyOf(`[]`), "Statement: is empty"},
		"a string":             {policyOf(`"x"`), `Statement[1]: want an object (got "x")`},
		"unknown element":      {`{"version":"2012-10-17"}`, `p:1:2: version: a policy has no such element, did you mean "Version"`},
		"a terminal's":         {`{"\u001b[2J":1}`, `p:1:2: holds the control character U+001B, which no name has`},
		"unseen":               {`{"\u200b":1}`, `p:1:2: "\u200b": a policy has no such element`},
		"of get-policy":        {`{"policyName":"x","policyDocument":"{}"}`, "p:1:2: policyName: this is what `aws iot get-policy` prints around a policy; have it print the policy alone"},
		"in a statement":       {policyOf(`{` + good + `,"Resources":"*"}`), `Statement[1].Resources: a statement has no such element, did you mean "Resource"`},
		"nothing like it":      {policyOf(`{` + all + `,"Comment":"*"}`), "Statement[1].Comment: a statement has no such element\n"},
		"twice":                {policyOf(`{"Effect":"Deny",` + good + `}`), "Statement[1].Effect: comes twice"},
		"twice, escaped":       {policyOf(`{"\u0045ffect":"Deny",` + good + `}`), "Statement[1].Effect: comes twice"},
		"lower effect":         {policyOf(`{"Effect":"allow","Action":"*","Resource":"*"}`), `Statement[1].Effect: want "Allow" or "Deny" (got "allow")`},
		"no effect":            {policyOf(`{"Action":"*","Resource":"*"}`), `Statement[1]: has no "Effect"; want "Allow" or "Deny"`},
		"no action":            {policyOf(`{"Effect":"Allow","Resource":"*"}`), `Statement[1]: has no "Action" and no "NotAction"`},
		"no resource":          {policyOf(`[{` + good + `}]`), `Statement[1]: has no "Resource" and no "NotResource"`},
		"second statement":     {policyOf(`[{` + good + `,"Resource":"*"},{}]`), `Statement[2]: has no "Action"`},
		"both actions":         {policyOf(`{` + all + `,"NotAction":"*"}`), "Statement[1].NotAction: stands next to Action; a statement has one of the two"},
		"both resources":       {policyOf(`{` + all + `,"NotResource":"*"}`), "Statement[1].NotResource: stands next to Resource"},
		"empty list":           {policyOf(`{"Effect":"Allow","Action":[],"Resource":"*"}`), "Statement[1].Action: the list is empty"},
		"list of null":         {policyOf(`{"Effect":"Allow","Action":["*",null],"Resource":"*"}`), "Statement[1].Action[2]: want a string (got null)"},
		"bare action":          {policyOf(`{"Effect":"Allow","Action":"Publish","Resource":"*"}`), `Action: want * or service:Name, such as iot:Connect (got "Publish")`},
		"action variable":      {policyOf(`{"Effect":"Allow","Action":"iot:${iot:ClientId}","Resource":"*"}`), "Action: an action has no variables"},
		"bare resource":        {policyOf(`{` + good + `,"Resource":"client/x"}`), `Resource: want * or arn:aws:iot:REGION:ACCOUNT:TYPE/NAME (got "client/x")`},
		"short ARN":            {policyOf(`{` + good + `,"Resource":"arn:aws:iot:*:client/x"}`), "Resource: want * or arn:aws:iot"},
		"ARN to nothing":       {policyOf(`{` + good + `,"Resource":"arn:aws:iot:a:b:"}`), "Resource: want * or arn:aws:iot"},
		"region variable":      {policyOf(`{` + good + `,"Resource":"arn:aws:iot:${aws:Region}:*:client/x"}`), "a variable may stand in the last part of an ARN only"},
		"open variable":        {policyOf(`{` + good + `,"Resource":"arn:aws:iot:*:*:client/${iot:ClientId"}`), "has no closing brace"},
		"empty variable":       {policyOf(`{` + good + `,"Resource":"arn:aws:iot:*:*:client/${}"}`), "${} names no variable"},
		"principal":            {policyOf(`{` + all + `,"Principal":"*"}`), "Statement[1].Principal: a policy of AWS IoT has none"},
		"a list of conditions": {policyOf(`{` + all + `,"Condition":[]}`), "Statement[1].Condition: want an object (got a list)"},
		"unknown operator":     {policyOf(`{` + all + `,"Condition":{"StringEqual":{"a:b":"c"}}}`), `Statement[1].Condition.StringEqual: unknown condition operator, did you mean "StringEquals"`},
		"other operator":       {policyOf(`{` + all + `,"Condition":{"BinaryEquals":{"a:b":"c"}}}`), `unknown condition operator; there are ArnEquals, ArnLike`},
		"unknown set":          {policyOf(`{` + all + `,"Condition":{"ForSomeValues:StringEquals":{"a:b":"c"}}}`), `want ForAllValues: or ForAnyValue: before the operator`},
		"null if exists":       {policyOf(`{` + all + `,"Condition":{"NullIfExists":{"a:b":"true"}}}`), `unknown condition operator`},
		"operator twice":       {policyOf(`{` + all + `,"Condition":{"Bool":{"a:b":true},"Bool":{}}}`), `Statement[1].Condition.Bool: comes twice`},
		"key twice":            {policyOf(`{` + all + `,"Condition":{"Bool":{"a:b":true,"a:b":false}}}`), `Statement[1].Condition.Bool.a:b: comes twice`},
		"no key":               {policyOf(`{` + all + `,"Condition":{"Bool":{"":true}}}`), `the key is empty`},
		"null value":           {policyOf(`{` + all + `,"Condition":{"StringLike":{"a:b":["c",null]}}}`), `Statement[1].Condition.StringLike.a:b[2]: want a string (got null)`},
		"no bool":              {policyOf(`{` + all + `,"Condition":{"Bool":{"a:b":"yes"}}}`), `want true or false (got "yes")`},
		"no address":           {policyOf(`{` + all + `,"Condition":{"IpAddress":{"aws:SourceIp":"192.0.2.0/33"}}}`), `want an address or a range such as 192.0.2.0/24 (got "192.0.2.0/33")`},
		"no number":            {policyOf(`{` + all + `,"Condition":{"NumericEquals":{"a:b":"one"}}}`), `want a number (got "one")`},
		"no date":              {policyOf(`{` + all + `,"Condition":{"DateLessThan":{"aws:CurrentTime":"tomorrow"}}}`), `want a time such as 2026-11-28T18:00:00Z, or seconds since 1970 (got "tomorrow")`},
		"no ARN":               {policyOf(`{` + all + `,"Condition":{"ArnEquals":{"iot:LastWillTopic":"my/topic"}}}`), `want * or arn:aws:iot:REGION:ACCOUNT:TYPE/NAME (got "my/topic")`},
		"too long":             {policyOf(`{"Sid":"` + strings.Repeat("x", PolicyMax) + `",` + all + `}`), "characters without white space, AWS IoT takes 2048; spread it"},
		"far too long":         {strings.Repeat(" ", 64<<10+1), "p:1:1: has 65537 bytes; a policy has at most 2048 characters"},
		"all mistakes":         {"{\n\"Version\":1,\n\"Statement\":2}", "p:2:11: Version: want \"2012-10-17\" (got 1)\np:3:13: Statement[1]: want an object (got 2)\n"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := ParseNamed("p", []byte(tc.document))
			if err == nil {
				t.Fatalf("accepted as %+v", p)
			}
			if p != nil {
				t.Errorf("a policy came with the error: %+v", p)
			}
			if !strings.HasPrefix(err.Error(), "p:") || !strings.Contains(err.Error()+"\n", tc.want) {
				t.Errorf("got  %v\nwant %s", err, tc.want)
			}
		})
	}
}

// At most 20 mistakes are told, however many there are; a document without a
// name is "policy".
func TestManyMistakes(t *testing.T) {
	_, err := Parse([]byte(policyOf("[" + strings.Repeat("1,", 99) + "1]")))
	if errs, ok := err.(Errors); !ok || len(errs) != 20 {
		t.Fatalf("got %v", err)
	}
	if !strings.HasPrefix(err.Error(), "policy:1:38: Statement[1]: ") {
		t.Errorf("got %v", err)
	}
}

// White space does not count, wherever it is.
func TestSize(t *testing.T) {
	p := policyOf(`{"Sid":"` + strings.Repeat("é", PolicyMax-92) + `","Effect":"Allow","Action":"*","Resource":"*"}`)
	if n := Size([]byte(p)); n != PolicyMax {
		t.Fatalf("%d characters", n)
	}
	if _, err := Parse([]byte(strings.ReplaceAll(p, ",", " ,\n\t"))); err != nil {
		t.Error(err)
	}
	if _, err := Parse([]byte(strings.Replace(p, "é", "éé", 1))); err == nil {
		t.Error("one character more is taken")
	}
}

func TestParseAccepts(t *testing.T) {
	for name, document := range map[string]string{
		"one statement, no list": policyOf(`{"Effect":"Allow","Action":"*","Resource":"*"}`),
		"ids":                    `{"Version":"2012-10-17","Id":"a","Statement":[{"Sid":"b","Effect":"Allow","Action":["iot:*"],"Resource":["*"]}]}`,
		"version last":           `{"Statement":{"Effect":"Allow","Action":"iot:Connect","Resource":"arn:aws:iot:*:*:*"},"Version":"2012-10-17"}`,
	} {
		p, err := Parse([]byte(document))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if d := p.Connect(&Connection{ClientID: "x"}); !d.Allowed {
			t.Errorf("%s: connect is %v", name, d)
		}
	}
}

// What Parse takes must be answered without a panic and always the same, and a
// denied resource must stay denied when asked as a whole ARN. What it refuses is
// told with a place that is in the document.
func FuzzParse(f *testing.F) {
	f.Add([]byte(tutorial), "iot:Publish", "topic/test/topic", "thing-1")
	f.Add([]byte(policyOf(`{"Effect":"Deny","Action":"*","Resource":"*"}`)), "iot:Connect", "client/x", "x")
	f.Add([]byte(policyOf(`{"Effect":"Allow","Action":"iot:?onnect","Resource":"arn:aws:iot:*:*:client/${iot:ClientId}*${*}"}`)), "iot:Connect", "client/x*", "x")
	f.Add([]byte(policyOf(`{"Effect":"Allow","NotAction":"iot:P*","NotResource":"arn:aws:iot:*:*:client/${iot:Certificate.Subject.CommonName.1}","Condition":{"ForAllValues:StringLikeIfExists":{"iot:ConnectAttributes":["*",1,true]}}}`)), "iot:Connect", "client/x*", "x")
	f.Add([]byte(policyOf(`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":"192.0.2.0/24"},"DateLessThan":{"aws:CurrentTime":"2030"},"NumericLessThan":{"aws:EpochTime":"1e9"},"ArnLike":{"iot:LastWillTopic":"arn:aws:iot:*:*:topic/${iot:ClientId}"},"Null":{"a:b":"true"},"Bool":{"iot:Connection.Thing.IsAttached":"true"}}}`)), "iot:Connect", "client/x", "x")
	f.Add([]byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Condition":1}]}`), "", "", "")
	f.Fuzz(func(t *testing.T, document []byte, action, resource, id string) {
		p, err := Parse(document)
		if err != nil {
			var errs Errors
			if p != nil || !errors.As(err, &errs) || len(errs) == 0 || len(errs) > 20 {
				t.Fatalf("policy %v with error %q", p, err)
			}
			lines := strings.Split(string(document), "\n")
			for _, e := range errs {
				if e.Reason == "" || e.Line < 1 || e.Line > len(lines) || e.Column < 1 || e.Column > 1+len(lines[e.Line-1]) {
					t.Fatalf("no such place: %+v", e)
				}
			}
			return
		}
		by := &Connection{
			ClientID: id, Thing: &Thing{Name: id, Attached: true, Attributes: map[string]string{"a": id}},
			Certificate:       &Certificate{Fields: map[string][]string{"Subject.CommonName": {"*", id}}},
			ConnectAttributes: []string{LastWill}, LastWillTopic: id, SourceIP: netip.MustParseAddr("192.0.2.7"), Time: time.Unix(1e9, 0),
		}
		d := p.Decide(Request{action, resource, by})
		none := d.Statement == Statement{}
		if d.Allowed && (d.Explicit || none) || d.Explicit && none || d.Statement.Number > len(p.statements) || len(d.Misses) > 0 && !none {
			t.Fatalf("decision does not hold together: %+v", d)
		}
		if again := p.Decide(Request{action, resource, by}); again.String() != d.String() {
			t.Fatalf("first %v, then %v", d, again)
		}
		for _, f := range p.Lint() {
			if f.Code == "" || f.Text == "" || f.Advice == "" {
				t.Fatalf("finding without words: %+v", f)
			}
		}
		if strings.HasPrefix(resource, "arn:") || d.Allowed {
			return
		}
		for _, s := range p.statements {
			if s.notResource || len(s.conditions) > 0 {
				return // they may well tell the two apart
			}
		}
		if whole := p.Decide(Request{action, "arn:aws:iot:eu-west-1:123456789012:" + resource, by}); whole.Allowed && !d.Explicit {
			t.Fatalf("%q is %v, its ARN %v", resource, d, whole)
		}
	})
}
