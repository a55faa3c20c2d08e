package awsiot

import (
	"strings"
	"testing"
)

// policyOf wraps statements into a document.
func policyOf(statements string) string {
	return `{"Version":"2012-10-17","Statement":` + statements + `}`
}

func TestParseRefuses(t *testing.T) {
	const good = `"Effect":"Allow","Action":"iot:Connect"`
	for name, tc := range map[string]struct{ document, want string }{
		"nothing":          {``, "line 1: unexpected end of JSON input"},
		"broken on line 3": {"{\n\"Version\":\n!}", "line 3: invalid character '!'"},
		"cut off":          {`{"Version":"2012-10-17","Statement":[`, "unexpected end of JSON input"},
		"two documents":    {policyOf(`[]`) + `{}`, "line 1: invalid character '{' after top-level value"},
		"not UTF-8":        {"{\"Version\":\"\xff\"}", "not UTF-8"},
		"not an object":    {`[]`, "want an object"},
		"null":             {`null`, "want an object"},
		"no version":       {`{"Statement":[]}`, `Version: want "2012-10-17" (got "")`},
		"old version":      {`{"Version":"2008-10-17"}`, `Version: want "2012-10-17" (got "2008-10-17")`},
		"version a number": {`{"Version":2012}`, `Version: want a string (got 2012)`},
		"version null":     {`{"Version":null}`, `Version: want a string (got null)`},
		"no statement":     {`{"Version":"2012-10-17"}`, "Statement: want at least one"},
		"empty statement":  {policyOf(`[]`), "Statement: want at least one"},
		"a string":         {policyOf(`"x"`), "Statement: 1: want an object"},
		"unknown element":  {`{"version":"2012-10-17"}`, "version: a policy has no such element"},
		"in a statement":   {policyOf(`{` + good + `,"Resources":"*"}`), "Statement: 1: Resources: a statement has no such element"},
		"twice":            {policyOf(`{"Effect":"Deny",` + good + `}`), "Statement: 1: Effect: comes twice"},
		"lower effect":     {policyOf(`{"Effect":"allow","Action":"*","Resource":"*"}`), `key "Effect": want "Allow" or "Deny" (got "allow")`},
		"no effect":        {policyOf(`{"Action":"*","Resource":"*"}`), `key "Effect": want "Allow" or "Deny" (got "")`},
		"no action":        {policyOf(`{"Effect":"Allow","Resource":"*"}`), `Statement: 1: key "Action" is missing`},
		"no resource":      {policyOf(`[{` + good + `}]`), `Statement: 1: key "Resource" is missing`},
		"second statement": {policyOf(`[{` + good + `,"Resource":"*"},{}]`), `Statement: 2: key "Effect": want`},
		"empty list":       {policyOf(`{"Effect":"Allow","Action":[],"Resource":"*"}`), "Action: the list is empty"},
		"list of null":     {policyOf(`{"Effect":"Allow","Action":[null],"Resource":"*"}`), "Action: want a string (got null)"},
		"bare action":      {policyOf(`{"Effect":"Allow","Action":"Publish","Resource":"*"}`), `Action: want * or service:Name (got "Publish")`},
		"action variable":  {policyOf(`{"Effect":"Allow","Action":"iot:${iot:ClientId}","Resource":"*"}`), "Action: an action has no variables"},
		"bare resource":    {policyOf(`{` + good + `,"Resource":"client/x"}`), `Resource: want * or arn:aws:iot:REGION:ACCOUNT:TYPE/NAME (got "client/x")`},
		"short ARN":        {policyOf(`{` + good + `,"Resource":"arn:aws:iot:*:client/x"}`), "Resource: want * or arn:aws:iot"},
		"ARN to nothing":   {policyOf(`{` + good + `,"Resource":"arn:aws:iot:a:b:"}`), "Resource: want * or arn:aws:iot"},
		"other variable":   {policyOf(`{` + good + `,"Resource":"arn:aws:iot:*:*:client/${aws:SourceIp}"}`), "variable ${aws:SourceIp} is not supported"},
		"open variable":    {policyOf(`{` + good + `,"Resource":"arn:aws:iot:*:*:client/${iot:ClientId"}`), "has no closing brace"},
		"condition":        {policyOf(`{` + good + `,"Resource":"*","Condition":{}}`), "Statement: 1: Condition: not supported"},
		"not action":       {policyOf(`{"Effect":"Deny","NotAction":"*"}`), "Statement: 1: NotAction: not supported"},
		"not resource":     {policyOf(`{"Effect":"Deny","NotResource":"*"}`), "Statement: 1: NotResource: not supported"},
		"principal":        {policyOf(`{"Principal":"*"}`), "Statement: 1: Principal: not supported"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Parse([]byte(tc.document))
			if err == nil {
				t.Fatalf("accepted as %+v", p)
			}
			if p != nil {
				t.Errorf("a policy came with the error: %+v", p)
			}
			if !strings.HasPrefix(err.Error(), "read policy: ") || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got  %v\nwant %s", err, tc.want)
			}
		})
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
		if d := p.Allows("iot:Connect", "client/x", Vars{ClientID: "x"}); !d.Allowed {
			t.Errorf("%s: connect is %v", name, d)
		}
	}
}

// What Parse takes must be answered without a panic, and a denied resource
// must stay denied when asked as a whole ARN.
func FuzzParse(f *testing.F) {
	f.Add([]byte(tutorial), "iot:Publish", "topic/test/topic", "thing-1")
	f.Add([]byte(policyOf(`{"Effect":"Deny","Action":"*","Resource":"*"}`)), "iot:Connect", "client/x", "x")
	f.Add([]byte(policyOf(`{"Effect":"Allow","Action":"iot:?onnect","Resource":"arn:aws:iot:*:*:client/${iot:ClientId}*${*}"}`)), "iot:Connect", "client/x*", "x")
	f.Add([]byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Condition":1}]}`), "", "", "")
	f.Fuzz(func(t *testing.T, document []byte, action, resource, id string) {
		p, err := Parse(document)
		if err != nil {
			if p != nil || !strings.HasPrefix(err.Error(), "read policy: ") {
				t.Fatalf("policy %v with error %q", p, err)
			}
			return
		}
		v := Vars{ClientID: id, ThingName: id}
		d := p.Allows(action, resource, v)
		if d.Allowed && (d.Explicit || d.Statement == 0) || d.Explicit && d.Statement == 0 || d.Statement > len(p.statements) {
			t.Fatalf("decision does not hold together: %+v", d)
		}
		if strings.HasPrefix(resource, "arn:") || d.Allowed {
			return
		}
		if whole := p.Allows(action, "arn:aws:iot:eu-west-1:123456789012:"+resource, v); whole.Allowed && !d.Explicit {
			t.Fatalf("%q is %v, its ARN %v", resource, d, whole)
		}
	})
}
