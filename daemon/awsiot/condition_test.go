package awsiot

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// Each operator, with what it holds for and what not, and with its key absent.
func TestOperators(t *testing.T) {
	at := time.Date(2026, 11, 28, 18, 0, 0, 0, time.UTC)
	full := &Connection{
		ClientID: "Thing-1", Thing: &Thing{Name: "Thing-1", Attached: true}, SourceIP: netip.MustParseAddr("2001:db8::7"),
		Time: at, Domain: "iot.example.com", ConnectAttributes: []string{LastWill}, LastWillTopic: "a/b",
	}
	for _, tc := range []struct {
		condition string
		by        *Connection
		want      bool
	}{
		{`"StringEquals":{"iot:ClientId":["x","Thing-1"]}`, full, true},
		{`"StringEquals":{"iot:ClientId":"thing-1"}`, full, false},
		{`"StringEquals":{"iot:ClientId":"Thing*"}`, full, false}, // no wildcards here
		{`"StringEquals":{"iot:ClientId":"${iot:Connection.Thing.ThingName}"}`, full, true},
		{`"StringEquals":{"iot:ClientId":"x"}`, nobody, false},
		{`"StringEqualsIfExists":{"iot:ClientId":"x"}`, nobody, true},
		{`"StringNotEquals":{"iot:ClientId":["x","y"]}`, full, true},
		{`"StringNotEquals":{"iot:ClientId":["x","Thing-1"]}`, full, false},
		{`"StringNotEquals":{"iot:ClientId":"x"}`, nobody, true},
		{`"StringEqualsIgnoreCase":{"iot:ClientId":"THING-1"}`, full, true},
		{`"StringEqualsIgnoreCase":{"iot:ClientId":"${iot:Connection.Thing.ThingName}"}`, full, true},
		{`"StringNotEqualsIgnoreCase":{"iot:ClientId":"THING-1"}`, full, false},
		{`"StringLike":{"iot:ClientId":"Th?ng-*"}`, full, true},
		{`"StringLike":{"iot:ClientId":"Th?ng"}`, full, false},
		{`"StringNotLike":{"iot:ClientId":"Th?ng-*"}`, full, false},
		{`"StringNotLike":{"iot:ClientId":"x*"}`, full, true},
		{`"StringEquals":{"iot:DomainName":"iot.example.com"}`, full, true},
		{`"StringEquals":{"iot:ClientId":"Thing-1","iot:DomainName":"x"}`, full, false}, // all of them
		{`"ArnEquals":{"iot:LastWillTopic":"arn:aws:iot:*:*:topic/a/*"}`, full, true},
		{`"ArnLike":{"iot:LastWillTopic":"arn:aws:iot:us-east-1:*:topic/a/b"}`, full, true},
		{`"ArnLike":{"iot:LastWillTopic":"arn:aws:iot:eu-west-1:*:topic/a/b"}`, full, false},
		{`"ArnLike":{"iot:LastWillTopic":"*"}`, nobody, false},
		{`"StringEquals":{"iot:LastWillTopic":"arn:aws:iot:us-east-1:123456789012:topic/a/b"}`, full, true},
		{`"StringLike":{"iot:LastWillTopic":"arn:aws:iot:*:topic/a/*"}`, full, true},
		{`"StringLike":{"iot:LastWillTopic":"topic/a/*"}`, full, false},
		{`"ArnNotEquals":{"iot:LastWillTopic":"arn:aws:iot:*:*:topic/a/b"}`, full, false},
		{`"ArnNotLike":{"iot:LastWillTopic":"arn:aws:iot:*:*:topic/a/c"}`, full, true},
		{`"Bool":{"iot:Connection.Thing.IsAttached":true}`, full, true},
		{`"Bool":{"iot:Connection.Thing.IsAttached":"TRUE"}`, full, true},
		{`"Bool":{"iot:Connection.Thing.IsAttached":false}`, full, false},
		{`"Bool":{"iot:Connection.Thing.IsAttached":false}`, nobody, true},
		{`"Bool":{"aws:SecureTransport":true}`, nobody, true},
		{`"IpAddress":{"aws:SourceIp":["192.0.2.0/24","2001:db8::/32"]}`, full, true},
		{`"IpAddress":{"aws:SourceIp":"2001:db8::7"}`, full, true},
		{`"IpAddress":{"aws:SourceIp":"2001:db8::8"}`, full, false},
		{`"IpAddress":{"aws:SourceIp":"0.0.0.0/0"}`, nobody, false},
		{`"NotIpAddress":{"aws:SourceIp":"2001:db8::/32"}`, full, false},
		{`"NotIpAddress":{"aws:SourceIp":"192.0.2.0/24"}`, full, true},
		{`"NotIpAddress":{"aws:SourceIp":"192.0.2.0/24"}`, nobody, true},
		{`"NumericEquals":{"aws:EpochTime":1795888800}`, full, true},
		{`"NumericNotEquals":{"aws:EpochTime":1795888800}`, full, false},
		{`"NumericLessThan":{"aws:EpochTime":"1795888800"}`, full, false},
		{`"NumericLessThanEquals":{"aws:EpochTime":"1795888800"}`, full, true},
		{`"NumericGreaterThan":{"aws:EpochTime":"1795888799.5"}`, full, true},
		{`"NumericGreaterThanEquals":{"aws:EpochTime":"1795888801"}`, full, false},
		{`"NumericLessThan":{"iot:ClientId":"5"}`, full, false}, // no number
		{`"DateEquals":{"aws:CurrentTime":"2026-11-28T18:00:00Z"}`, full, true},
		{`"DateEquals":{"aws:CurrentTime":"1795888800"}`, full, true},
		{`"DateNotEquals":{"aws:CurrentTime":"2026-11-28T19:00:00+01:00"}`, full, false},
		{`"DateLessThan":{"aws:CurrentTime":"2026-11-29"}`, full, true},
		{`"DateLessThanEquals":{"aws:CurrentTime":"2026"}`, full, false},
		{`"DateGreaterThan":{"aws:CurrentTime":"2026-11"}`, full, true},
		{`"DateGreaterThanEquals":{"aws:EpochTime":"2026-11-28T18:01Z"}`, full, false},
		{`"DateGreaterThan":{"aws:CurrentTime":"2020-01-01"}`, nobody, false},
		{`"Null":{"iot:ClientId":"true"}`, nobody, true},
		{`"Null":{"iot:ClientId":"true"}`, full, false},
		{`"Null":{"iot:ClientId":false}`, full, true},
		{`"ForAllValues:StringLike":{"iot:ConnectAttributes":"Last*"}`, full, true},
		{`"ForAllValues:StringLikeIfExists":{"iot:ConnectAttributes":"Last*"}`, nobody, true},
		{`"ForAnyValue:StringNotEquals":{"iot:ConnectAttributes":"LastWill"}`, full, false},
		{`"ForAnyValue:StringNotEquals":{"iot:ConnectAttributes":"LastWill"}`, nobody, false},
		{`"ForAnyValue:StringEqualsIfExists":{"iot:ConnectAttributes":"LastWill"}`, nobody, true},
		{`"ForAnyValue:StringLike":{"iot:Certificate.AvailableKeys":"iot:*CommonName"}`, certified("Subject.CommonName", "x"), true},
		{`"ForAnyValue:StringLike":{"iot:Certificate.AvailableKeys":"iot:*Country"}`, certified("Subject.CommonName", "x"), false},
		{`"StringEquals":{"iot:CertificateId":"c0ffee"}`, certified("Subject.CommonName"), true},
	} {
		p := mustParse(t, `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{`+tc.condition+`}}`)
		d := p.Decide(Request{"iot:Connect", here + "client/x", tc.by})
		if d.Allowed != tc.want {
			t.Errorf("%s: %v, want %v", tc.condition, d, tc.want)
		}
		if !d.Allowed && !strings.Contains(d.String(), "the condition") {
			t.Errorf("%s: no word of the condition: %v", tc.condition, d)
		}
	}
	for _, o := range tests {
		if _, err := parseOperator("ForAnyValue:" + o.name); err != nil {
			t.Error(err)
		}
	}
}

// Attributes of the CONNECT are there for iot:Connect only.
func TestAttributesAreOfConnect(t *testing.T) {
	p := mustParse(t, `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"ForAnyValue:StringEquals":{"iot:ConnectAttributes":"LastWill"}}}`)
	by := attributes(LastWill)
	if d := p.Connect(by); !d.Allowed {
		t.Error(d)
	}
	if d := p.Publish(by, "a", false); d.Allowed {
		t.Error(d)
	}
}

func TestExclusiveThing(t *testing.T) {
	p := document(t, "A Publish t:TN")
	for _, tc := range []struct{ attached, exclusive, want bool }{{true, true, true}, {true, false, false}, {false, true, false}} {
		by := &Connection{ClientID: "other", Thing: &Thing{Name: "thing1", Attached: tc.attached, Exclusive: tc.exclusive}}
		if d := p.Publish(by, "thing1", false); d.Allowed != tc.want {
			t.Errorf("%+v: %v", tc, d)
		}
	}
}

// Several policies count together, and each decision says whose statement it was.
func TestMerge(t *testing.T) {
	allow, err := ParseNamed("a.json", []byte(policyOf(`[{"Effect":"Allow","Action":"*","Resource":"*"}]`)))
	if err != nil {
		t.Fatal(err)
	}
	deny, err := ParseNamed("b.json", []byte(policyOf("[\n"+`{"Sid":"No","Effect":"Deny","Action":"iot:Publish","Resource":"arn:aws:iot:*:*:topic/secret"}]`)))
	if err != nil {
		t.Fatal(err)
	}
	both := Merge(allow, nil, deny)
	if got := both.Publish(nil, "secret", false).String(); got != `denied by statement 1 "No" (b.json:2)` {
		t.Error(got)
	}
	if got := both.Publish(nil, "open", false).String(); got != "allowed by statement 1 (a.json:1)" {
		t.Error(got)
	}
	if d := Merge().Publish(nil, "open", false); d.Allowed || d.String() != "allowed by no statement" {
		t.Error(d)
	}
}

// What nothing allows is answered with why the nearest statement does not.
func TestNearMisses(t *testing.T) {
	t1 := thing("thing1")
	for _, tc := range []struct {
		policy, question string
		by               *Connection
		want             string
	}{
		{"A Publish *; A Connect c:test-*,c:thing-*", "connect", &Connection{ClientID: "my-laptop1"}, "statement 2 (line 1): client/my-laptop1 is not client/test-* nor client/thing-*"},
		{"A Publish t:Test/topic", "publish test/topic", t1, "topic/Test/topic differs from topic/test/topic in upper and lower case"},
		{"A Subscribe t:a", "subscribe a", t1, "it names topic/a; this action is asked for topicfilter/"},
		{"A Publish f:a", "publish a", t1, "it names topicfilter/a; this action is asked for topic/"},
		{"A Publish t:x", "elsewhere x", t1, "it is for another region or account: " + here + "topic/x"},
		{"A Connect c:TN", "connect", &Connection{ClientID: "x"}, `client/${iot:Connection.Thing.ThingName}: ${iot:Connection.Thing.ThingName} has no value: no thing has the name "x", the client id`},
		{"A Publish t:a", "retain a", t1, "it allows iot:Publish and not iot:RetainPublish"},
		{"A Publish !t:a", "publish a", t1, "its NotResource excepts topic/a"},
		{"A Publish t:a; A Publish t:a/b/x", "publish a/b/c", t1, "statement 2 (line 1): topic/a/b/c is not topic/a/b/x"},
		{"A Connect * if FAV:CA=[LastWill]", "connect", attributes(PersistentConnect), `ForAllValues:StringEquals on iot:ConnectAttributes does not hold: want "LastWill", got "PersistentConnect"`},
		{"A Publish t:${iot:Certificate.Subject.CommonName}", "publish dev*", certified("Subject.CommonName", "dev*"), `its value "dev*" holds one of * $ + ? #`},
		{"A Publish t:${iot:ConnectAttributes}", "publish LastWill", attributes(LastWill), "it is a list, which only a condition can use"},
		{"A Publish t:1,t:2,t:3,t:4,t:5,t:6,t:7,t:8", "publish 9", t1, "topic/9 is not topic/1 nor topic/2 nor topic/3 nor topic/4 nor topic/5 nor topic/6 nor 2 more"},
	} {
		d := asking(t, document(t, tc.policy), tc.by, tc.question)
		if d.Allowed || !strings.Contains(d.String(), tc.want) {
			t.Errorf("%s, %s:\ngot  %v\nwant %s", tc.policy, tc.question, d, tc.want)
		}
	}
}

func TestCertificateOf(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	name := pkix.Name{
		Country: []string{"US", "DE"}, Organization: []string{"Example Corp"}, CommonName: "dev9", SerialNumber: "7",
		ExtraNames: []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{2, 5, 4, 12}, Value: "Pump"}},
	}
	uri, err := url.Parse("urn:x:y")
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(4711), Subject: name, DNSNames: []string{"a.example", "b.example"},
		EmailAddresses: []string{"x@a.example"}, URIs: []*url.URL{uri}, IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)},
	}, &x509.Certificate{Subject: name}, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	c := CertificateOf(leaf)
	sum := sha256.Sum256(der)
	if c.ID != hex.EncodeToString(sum[:]) || c.SerialNumber != "4711" {
		t.Errorf("id %s, serial number %s", c.ID, c.SerialNumber)
	}
	for field, want := range map[string][]string{
		"Subject.Country": {"US", "DE"}, "Subject.CommonName": {"dev9"}, "Issuer.CommonName": {"dev9"}, "Subject.SerialNumber": {"7"},
		"Subject.Title": {"Pump"}, "Subject.AlternativeName.DNSName": {"a.example", "b.example"},
		"Subject.AlternativeName.RFC822Name": {"x@a.example"}, "Subject.AlternativeName.UniformResourceIdentifier": {"urn:x:y"},
		"Subject.AlternativeName.IPAddress": {"192.0.2.1"},
	} {
		got := slices.Clone(c.Fields[field])
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s is %q, want %q", field, got, want)
		}
		if _, ok := canonical("iot:certificate." + strings.ToLower(field)); !ok {
			t.Errorf("%s is no variable", field)
		}
	}
}

func TestNearest(t *testing.T) {
	for name, want := range map[string]string{
		"iot:Thing.ThingName":                      "iot:Connection.Thing.ThingName",
		"iot:ClientID":                             "iot:ClientId",
		"iot:Certificate.Subject.ComonName":        "iot:Certificate.Subject.CommonName",
		"iot:Connection.Thing.Something.Different": "",
	} {
		if got := nearest(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	for _, tc := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"abc", "abd", 1}, {"abc", "bc", 1}, {"kitten", "sitting", 3}, {"a", strings.Repeat("x", 20), 9}} {
		if got := distance(tc.a, tc.b); got != tc.want {
			t.Errorf("%q to %q: %d, want %d", tc.a, tc.b, got, tc.want)
		}
	}
}

func TestEscape(t *testing.T) {
	for _, s := range []string{"", "a/b", "a*?$", "${*}", "$${iot:ClientId}", "$aws/things/x", "é"} {
		p, err := compile(escape(s), true)
		if err != nil || p.wild() || len(p.variables()) > 0 || !p.matches(s) {
			t.Errorf("%q becomes %q: %v, %v", s, escape(s), p, err)
		}
	}
	if got := escape("$aws/${x}*"); got != "$aws/${$}{x}${*}" {
		t.Error(got)
	}
}

func ExampleErrors() {
	_, err := ParseNamed("greenhouse.json", []byte(`{
  "Version": "2012-10-17",
  "Statement": {"Effect": "allow", "Action": "Connect", "Resource": "*"}
}`))
	fmt.Println(err)
	// Output:
	// greenhouse.json:3:27: Statement[1].Effect: want "Allow" or "Deny" (got "allow")
	// greenhouse.json:3:46: Statement[1].Action: want * or service:Name, such as iot:Connect (got "Connect")
}

// Asked without region and account, a text that names them cannot be compared; one
// that leaves them open can.
func TestWillTopicAsText(t *testing.T) {
	by := &Connection{ClientID: "x", LastWillTopic: "a/b"}
	for text, want := range map[string]bool{"arn:aws:iot:*:*:topic/a/b": true, "arn:aws:iot:us-east-1:123456789012:topic/a/b": false} {
		p := mustParse(t, `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringLike":{"iot:LastWillTopic":"`+text+`"}}}`)
		if d := p.Connect(by); d.Allowed != want || want && len(d.Inferred) == 0 {
			t.Errorf("%s: %v, inferred %q", text, d, d.Inferred)
		}
	}
	if d := Tutorial().Connect(nil); d.Allowed {
		t.Error(d)
	}
}
