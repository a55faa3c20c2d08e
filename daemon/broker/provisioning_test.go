package broker

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"fieldpost/daemon/awsiot"
)

const pump = `{
 "Parameters": {"Serial": {"Type": "String"}, "Place": {"Type": "String", "Default": "barn"}, "AWS::IoT::Certificate::Id": {"Type": "String"}},
 "Resources": {
  "thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Fn::Join": ["-", ["pump", {"Ref": "Place"}, {"Fn::Sub": "${Serial}"}]]}}},
  "certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "Active"}},
  "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyDocument": {"Version": "2012-10-17", "Statement": [
   {"Effect": "Allow", "Action": "iot:Connect", "Resource": "arn:aws:iot:x:1:client/${iot:Connection.Thing.ThingName}", "Condition": {"Bool": {"iot:Connection.Thing.IsAttached": "true"}}}]}}}
 },
 "DeviceConfiguration": {"color": "blue"}
}`

// fleet is a broker that provisions, and what moves its clock.
func fleet(t *testing.T, p *Provisioning) (b *Broker, pass func(time.Duration)) {
	t.Helper()
	template, err := ParseTemplate("pumps", []byte(pump))
	if err != nil {
		t.Fatal(err)
	}
	p.Templates = []*Template{template}
	var mu sync.Mutex
	now := time.Now()
	b, err = New(Options{Dir: t.TempDir(), Provisioning: p, now: func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}})
	if err != nil {
		t.Fatal(err)
	}
	start(t, b)
	return b, func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(d)
	}
}

// joinWith connects with a certificate.
func joinWith(t *testing.T, b *Broker, id string, pair tls.Certificate) *client {
	t.Helper()
	conf := clientTLS(t, b.Files())
	conf.Certificates = []tls.Certificate{pair}
	conn, err := tls.Dial("tcp", b.Addr(), conf)
	if err != nil {
		t.Fatal(err)
	}
	c := speak(t, conn)
	c.send(hello(id, true))
	return c
}

// claim connects with the claim certificate and subscribes to all answers.
func claim(t *testing.T, b *Broker) *client {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(ClaimFiles(filepath.Dir(b.Files().CA)))
	if err != nil {
		t.Fatal(err)
	}
	c := joinWith(t, b, "claim-1", pair)
	c.want(packets.Connack)
	c.subscribe(1, "$aws/certificates/create-from-csr/json/+", "$aws/provisioning-templates/pumps/provision/json/+")
	return c
}

// ask sends a request and gives its answer, and whether it was accepted.
func (c *client) ask(topic string, request any) (answer map[string]any, accepted bool) {
	c.t.Helper()
	payload, err := json.Marshal(request)
	if err != nil {
		c.t.Fatal(err)
	}
	c.send(publication(9, topic, string(payload)))
	pk := c.want(packets.Publish)
	c.want(packets.Puback)
	if err := json.Unmarshal(pk.Payload, &answer); err != nil {
		c.t.Fatalf("%q: %v", pk.Payload, err)
	}
	verdict, ok := strings.CutPrefix(pk.TopicName, topic+"/")
	if !ok {
		c.t.Fatalf("answer on %q", pk.TopicName)
	}
	return answer, verdict == "accepted"
}

func newCSR(t *testing.T) (*ecdsa.PrivateKey, string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "pump-barn-7"}}, k)
	if err != nil {
		t.Fatal(err)
	}
	return k, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// created has a certificate made.
func (c *client) created() (pair tls.Certificate, token string) {
	c.t.Helper()
	k, csr := newCSR(c.t)
	answer, ok := c.ask(createFromCSR, map[string]string{"certificateSigningRequest": csr})
	if !ok {
		c.t.Fatal(answer)
	}
	block, _ := pem.Decode([]byte(answer["certificatePem"].(string)))
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		c.t.Fatal(err)
	}
	if answer["certificateId"] != idOf(block.Bytes) || cert.Subject.CommonName != "pump-barn-7" {
		c.t.Errorf("%v of %v", answer["certificateId"], cert.Subject)
	}
	return tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: k, Leaf: cert}, answer["certificateOwnershipToken"].(string)
}

const pumps = templatesPrefix + "pumps" + provisionSuffix

func registration(token string, parameters map[string]string) any {
	return map[string]any{"certificateOwnershipToken": token, "parameters": parameters}
}

// The whole way: a certificate of a CSR is accepted once a thing is registered with it, and
// then as that thing only; a token serves once.
func TestProvisioning(t *testing.T) {
	b, _ := fleet(t, &Provisioning{})
	c := claim(t, b)
	pair, token := c.created()
	joinWith(t, b, "pump-barn-7", pair).wantClosed() // pending
	if answer, ok := c.ask(pumps, registration(token, nil)); ok || answer["errorCode"] != "InvalidParameters" || !strings.Contains(answer["errorMessage"].(string), "Serial") {
		t.Errorf("without its parameter: %v", answer)
	}
	answer, ok := c.ask(pumps, registration(token, map[string]string{"Serial": "7"}))
	if device, _ := answer["deviceConfiguration"].(map[string]any); !ok || answer["thingName"] != "pump-barn-7" || device["color"] != "blue" {
		t.Fatal(answer)
	}
	joinWith(t, b, "pump-barn-7", pair).want(packets.Connack)
	joinWith(t, b, "pump-barn-8", pair).wantClosed() // the template's policy
	if answer, ok := c.ask(pumps, registration(token, map[string]string{"Serial": "8"})); ok || answer["errorCode"] != "InvalidCertificateOwnershipToken" || answer["statusCode"] != 400.0 {
		t.Errorf("a used token: %v", answer)
	}
	b.Deactivate(pair.Leaf)
	joinWith(t, b, "pump-barn-7", pair).wantClosed()
}

// What the API does not take is rejected with a reason.
func TestProvisioningRejects(t *testing.T) {
	b, pass := fleet(t, &Provisioning{Lifetime: 48 * time.Hour})
	c := claim(t, b)
	for csr, want := range map[string]string{"": "InvalidCSR", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n": "InvalidCSR"} {
		if answer, ok := c.ask(createFromCSR, map[string]string{"certificateSigningRequest": csr}); ok || answer["errorCode"] != want {
			t.Errorf("%q: %v", csr, answer)
		}
	}
	if answer, ok := c.ask(createFromCSR, []int{1}); ok || answer["errorCode"] != "InvalidPayload" {
		t.Error(answer)
	}
	if answer, ok := c.ask(pumps, registration("", map[string]string{"Serial": "7"})); ok || answer["errorCode"] != "InvalidCertificateOwnershipToken" {
		t.Error(answer)
	}
	pair, token := c.created()
	if life := time.Until(pair.Leaf.NotAfter); life > 48*time.Hour || life < 47*time.Hour {
		t.Errorf("valid for %v", life)
	}
	pass(ownershipLife)
	if answer, ok := c.ask(pumps, registration(token, map[string]string{"Serial": "7"})); ok || answer["errorCode"] != "InvalidCertificateOwnershipToken" {
		t.Errorf("after an hour: %v", answer)
	}
	c.subscribe(2, "$aws/provisioning-templates/other/provision/json/+")
	if answer, ok := c.ask(templatesPrefix+"other"+provisionSuffix, registration(token, nil)); ok || answer["errorCode"] != "InvalidTemplate" {
		t.Error(answer)
	}
}

// Requests meet with any fate that a network and a busy service have for them.
func TestProvisioningFates(t *testing.T) {
	fates := make(chan Fate, 1)
	b, _ := fleet(t, &Provisioning{Intercept: func(string) Fate { return <-fates }})
	c := claim(t, b)
	request := func(fate Fate) {
		fates <- fate
		_, csr := newCSR(t)
		text, err := json.Marshal(map[string]string{"certificateSigningRequest": csr})
		if err != nil {
			t.Fatal(err)
		}
		c.send(publication(3, createFromCSR, string(text)))
	}
	for _, fate := range []Fate{Lost, Ignored} {
		request(fate)
		c.want(packets.Puback)
		c.wantNothing()
	}
	request(Throttled)
	if pk := c.want(packets.Publish); pk.TopicName != createFromCSR+"/rejected" {
		t.Error(pk.TopicName)
	}
	c.want(packets.Puback)
	request(CutOff)
	c.wantClosed()
}

// The policy that the developer guide prints for claim certificates denies a CSR.
func TestClaimPolicy(t *testing.T) {
	b, _ := fleet(t, &Provisioning{ClaimPolicy: policy(t, `{"Effect":"Allow","Action":"iot:Connect","Resource":"*"},
		{"Effect":"Allow","Action":["iot:Publish","iot:Receive"],"Resource":["arn:aws:iot:x:1:topic/$aws/certificates/create/*","arn:aws:iot:x:1:topic/$aws/provisioning-templates/pumps/provision/*"]},
		{"Effect":"Allow","Action":"iot:Subscribe","Resource":["arn:aws:iot:x:1:topicfilter/$aws/certificates/create/*","arn:aws:iot:x:1:topicfilter/$aws/provisioning-templates/pumps/provision/*"]}`)})
	pair, err := tls.LoadX509KeyPair(ClaimFiles(filepath.Dir(b.Files().CA)))
	if err != nil {
		t.Fatal(err)
	}
	c := joinWith(t, b, "claim-1", pair)
	c.want(packets.Connack)
	c.subscribe(1, "$aws/provisioning-templates/pumps/provision/json/+")
	c.send(subscription(2, "$aws/certificates/create-from-csr/json/accepted"))
	c.wantClosed()
	join(t, b, "thing-1", true).subscribe(1, "anything") // other certificates are not bound by it
	c = joinWith(t, b, "claim-1", pair)
	c.want(packets.Connack)
	c.send(publication(1, createFromCSR, "{}"))
	c.wantClosed()
	b.Deactivate(mustLeaf(t, pair))
	joinWith(t, b, "claim-1", pair).wantClosed()
}

func mustLeaf(t *testing.T, pair tls.Certificate) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A broker without provisioning treats the topics as any other.
func TestWithoutProvisioning(t *testing.T) {
	b := open(t, nil)
	c := join(t, b, "thing-1", true)
	c.subscribe(1, createFromCSR+"/+")
	c.publish(2, createFromCSR, "{}")
	c.wantNothing()
	if _, err := os.Stat(filepath.Join(filepath.Dir(b.Files().CA), "claim.pem.crt")); !os.IsNotExist(err) {
		t.Error(err)
	}
}

// A mistake in a template is named.
func TestParseTemplate(t *testing.T) {
	certificate := `"c": {"Type": "AWS::IoT::Certificate"}`
	for text, want := range map[string]string{
		"{\n\n\"Parameters\": 3}": "line 3: ",
		"{\n":                     "line 2: ",
		`{"Resources": {}}`:       "no AWS::IoT::Certificate",
		`{"Resources": {` + certificate + `, "x": {"Type": "AWS::S3::Bucket"}}}`:                                                               `Resources.x.Type: want AWS::IoT::Thing, AWS::IoT::Certificate or AWS::IoT::Policy (got "AWS::S3::Bucket")`,
		`{"Resources": {` + certificate + `, "t": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "Serial"}}}}}`:               `ThingName: Ref: "Serial" is none of the Parameters`,
		`{"Resources": {` + certificate + `, "t": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Fn::Sub": "a${Serial}"}}}}}`:       `ThingName: Fn::Sub: "Serial" is none of the Parameters`,
		`{"Resources": {` + certificate + `, "t": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Fn::Join": ["-"]}}}}}`:             `ThingName: Fn::Join: want a delimiter and a list`,
		`{"Resources": {` + certificate + `, "t": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Fn::Get": "x"}}}}}`:                `ThingName: want Ref, Fn::Join or Fn::Sub (got "Fn::Get")`,
		`{"Resources": {` + certificate + `, "t": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": 3}}}}`:                               `ThingName: want a string, Ref, Fn::Join or Fn::Sub (got 3)`,
		`{"Resources": {` + certificate + `, "p": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyDocument": "{\"Version\": \"2008\"}"}}}}`: "Resources.p.Properties.PolicyDocument: ",
		`{"Resources": {` + certificate + `, "p": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyDocument": {"Version": "2012-10-17"}}}}}`: "Resources.p.Properties.PolicyDocument: ",
	} {
		if _, err := ParseTemplate("x", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
	if _, err := ParseTemplate("a b", []byte(pump)); err == nil {
		t.Error("took a name with a blank")
	}
	if _, err := ReadTemplate("x", filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("read nothing")
	}
	var none *awsiot.Policy
	if p, err := ParseTemplate("x", []byte(`{"Resources": {`+certificate+`, "p": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "other"}}}}`)); err != nil || p.policy != none {
		t.Error(p, err)
	}
}

// The template that is shipped can be used.
func TestShippedTemplate(t *testing.T) {
	shipped, err := ReadTemplate("fieldpost", "../../configs/provisioning/template.json")
	if err != nil {
		t.Fatal(err)
	}
	all, err := shipped.fill(map[string]string{"ThingName": "thing-7"}, "id")
	if err != nil {
		t.Fatal(err)
	}
	if name, err := shipped.thingName(all); name != "thing-7" || err != nil {
		t.Errorf("%q, %v", name, err)
	}
}
