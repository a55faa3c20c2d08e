package broker

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"path/filepath"
	"strings"
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/topic"
)

// Provisioning has the broker provision devices by claim, as AWS IoT does (AWS IoT Core
// Developer Guide, "Device provisioning MQTT API"): it signs the certificate of a CSR with
// its own CA, and activates it when the client registers a thing by a template. JSON only.
type Provisioning struct {
	Templates   []*Template
	ClaimPolicy *awsiot.Policy // of the claim certificate; nil allows everything
	Lifetime    time.Duration  // of the certificates that it issues; 0 is that of the CA
	// Intercept is asked what is to become of a request, by its topic; nil answers all. It
	// is called on the client's goroutine. For tests.
	Intercept func(topic string) Fate
}

// Fate is what becomes of a provisioning request.
type Fate int

// The fates.
const (
	Answered  Fate = iota
	Lost           // it takes effect, and no answer is sent
	CutOff         // it takes effect, and the connection ends before the answer
	Ignored        // it has no effect, and no answer is sent
	Throttled      // it is rejected because there are too many
)

// The topics of the API.
const (
	createFromCSR   = "$aws/certificates/create-from-csr/json"
	templatesPrefix = "$aws/provisioning-templates/"
	provisionSuffix = "/provision/json"
)

// ownershipLife is how long a certificate waits for its thing.
const ownershipLife = time.Hour

// ClaimFiles returns the paths of the claim certificate and its key in a directory.
func ClaimFiles(dir string) (certificate, key string) {
	return filepath.Join(dir, "claim.pem.crt"), filepath.Join(dir, "claim.pem.key")
}

// authority issues certificates and knows those that it has issued. Any goroutine.
type authority struct {
	options   Provisioning
	templates map[string]*Template
	ca        *x509.Certificate
	key       *ecdsa.PrivateKey
	claim     string // the claim certificate's id
	now       func() time.Time

	mu       sync.Mutex
	issued   map[string]*issued // by certificate id
	inactive map[string]bool    // deactivated, by certificate id
}

// issued is a certificate that came of a CSR.
type issued struct {
	token  string
	at     time.Time
	active bool
	thing  string         // "" is none
	policy *awsiot.Policy // nil: the broker's own
}

func newAuthority(o Provisioning, files Files, now func() time.Time) (*authority, error) {
	a := &authority{options: o, templates: map[string]*Template{}, now: now, issued: map[string]*issued{}, inactive: map[string]bool{}}
	for _, t := range o.Templates {
		a.templates[t.Name] = t
	}
	var err error
	if a.ca, err = readCertificate(files.CA); err != nil {
		return nil, err
	}
	if a.key, err = readKey(files.CAKey); err != nil {
		return nil, err
	}
	certFile, keyFile := ClaimFiles(filepath.Dir(files.CA))
	claimKey, err := key(keyFile)
	if err != nil {
		return nil, err
	}
	claim, err := certificate(certFile, leaf("fieldpost claim", a.ca, x509.ExtKeyUsageClientAuth, nil), a.ca, &claimKey.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	a.claim = idOf(claim.Raw)
	return a, nil
}

// idOf is the certificate id of AWS IoT: the SHA-256 of the certificate, in hexadecimal.
func idOf(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// deactivate has no client with the certificate accepted any more.
func (a *authority) deactivate(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.inactive[id] = true
}

// admit says why no client with the certificate is accepted; nil when it is.
func (a *authority) admit(id string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch c := a.issued[id]; {
	case a.inactive[id]:
		return errors.New("the certificate is INACTIVE")
	case c != nil && !c.active:
		return errors.New("the certificate is PENDING_ACTIVATION: no thing has been registered with it")
	}
	return nil
}

// policyFor returns the policy of a certificate; other is that of those the authority does
// not know. thing is "" where the client id counts as the thing.
func (a *authority) policyFor(id string, other *awsiot.Policy) (policy *awsiot.Policy, thing string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if id == a.claim {
		return a.options.ClaimPolicy, ""
	}
	if c := a.issued[id]; c != nil {
		if c.policy != nil {
			other = c.policy
		}
		return other, c.thing
	}
	return other, ""
}

// apiError is the body of a rejection.
type apiError struct {
	StatusCode   int    `json:"statusCode"`
	ErrorCode    string `json:"errorCode"`
	ErrorMessage string `json:"errorMessage"`
}

func reject(status int, code, format string, args ...any) (any, *apiError) {
	return nil, &apiError{status, code, fmt.Sprintf(format, args...)}
}

// call carries out a request. ok reports whether the topic is one of the API.
func (a *authority) call(to string, payload []byte) (answer any, rejected *apiError, ok bool) {
	name, provision := strings.CutPrefix(to, templatesPrefix)
	name, json := strings.CutSuffix(name, provisionSuffix)
	switch {
	case to == createFromCSR:
		answer, rejected = a.createFromCSR(payload)
	case provision && json && !strings.Contains(name, "/"):
		answer, rejected = a.registerThing(name, payload)
	default:
		return nil, nil, false
	}
	return answer, rejected, true
}

func (a *authority) createFromCSR(payload []byte) (any, *apiError) {
	var request struct {
		CSR string `json:"certificateSigningRequest"`
	}
	if err := json.Unmarshal(payload, &request); err != nil {
		return reject(400, "InvalidPayload", "The payload is not valid JSON.")
	}
	block, _ := pem.Decode([]byte(request.CSR))
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return reject(400, "InvalidCSR", "The certificate signing request is not in PEM.")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil {
		return reject(400, "InvalidCSR", "The certificate signing request is invalid: %v", err)
	}
	der, err := a.sign(csr)
	if err != nil {
		return reject(500, "InternalFailure", "%v", err)
	}
	random := make([]byte, 32)
	rand.Read(random) // never fails
	token, id := base64.RawURLEncoding.EncodeToString(random), idOf(der)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.issued[id] = &issued{token: token, at: a.now()}
	return map[string]string{
		"certificateId": id, "certificatePem": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), "certificateOwnershipToken": token,
	}, nil
}

// sign makes the certificate of a CSR.
func (a *authority) sign(csr *x509.CertificateRequest) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	c := &x509.Certificate{
		SerialNumber: serial, Subject: csr.Subject, NotBefore: a.ca.NotBefore, NotAfter: a.ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
	}
	if a.options.Lifetime > 0 {
		now := notBefore(a.now())
		c.NotBefore, c.NotAfter = now.Add(-time.Minute), now.Add(a.options.Lifetime)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.ca, csr.PublicKey, a.key)
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	return der, nil
}

func (a *authority) registerThing(name string, payload []byte) (any, *apiError) {
	var request struct {
		Token      string            `json:"certificateOwnershipToken"`
		Parameters map[string]string `json:"parameters"`
	}
	if err := json.Unmarshal(payload, &request); err != nil {
		return reject(400, "InvalidPayload", "The payload is not valid JSON, or a parameter is no string.")
	}
	t := a.templates[name]
	if t == nil {
		return reject(400, "InvalidTemplate", "The provisioning template %q does not exist.", name)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	id, c := a.ownedLocked(request.Token)
	if c == nil {
		return reject(400, "InvalidCertificateOwnershipToken", "The certificate ownership token is invalid, was used, or has expired.")
	}
	parameters, err := t.fill(request.Parameters, id)
	if err != nil {
		return reject(400, "InvalidParameters", "%v", err)
	}
	thing, err := t.thingName(parameters)
	if err != nil {
		return reject(400, "InvalidTemplate", "%v", err)
	}
	c.active, c.thing, c.policy, c.token = true, thing, t.policy, ""
	device := t.device
	if device == nil {
		device = map[string]string{}
	}
	return map[string]any{"thingName": thing, "deviceConfiguration": device}, nil
}

// ownedLocked returns the certificate of a token that is still valid, or nil.
func (a *authority) ownedLocked(token string) (id string, c *issued) {
	for id, c := range a.issued {
		if token != "" && c.token == token && a.now().Sub(c.at) < ownershipLife {
			return id, c
		}
	}
	return "", nil
}

// provision answers a PUBLISH that is a request of the provisioning API; others go on as
// they are. An error ends the connection.
func (r *rules) provision(cl *mqtt.Client, pk packets.Packet) error {
	if r.authority == nil || !strings.HasPrefix(pk.TopicName, "$aws/") {
		return nil
	}
	fate := Answered
	if f := r.authority.options.Intercept; f != nil {
		fate = f(pk.TopicName)
	}
	var answer any
	var rejected *apiError
	switch fate {
	case Ignored:
		return nil
	case Throttled:
		rejected = &apiError{429, "TooManyRequests", "The rate is exceeded."}
	default:
		ok := false
		if answer, rejected, ok = r.authority.call(pk.TopicName, pk.Payload); !ok {
			return nil
		}
	}
	log := r.log.With("client", cl.ID, "topic", pk.TopicName)
	to := pk.TopicName + "/accepted"
	if rejected != nil {
		answer, to = rejected, pk.TopicName+"/rejected"
		log = log.With("code", rejected.ErrorCode, "reason", rejected.ErrorMessage)
	}
	log.Info("provisioning", "accepted", rejected == nil)
	switch {
	case fate == CutOff:
		return packets.ErrRejectPacket
	case fate == Lost || !subscribed(cl, to) || r.ask(cl, "iot:Receive", "topic/"+to) != nil:
		return nil
	}
	payload, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	return cl.WritePacket(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish}, ProtocolVersion: cl.Properties.ProtocolVersion, TopicName: to, Payload: payload,
	})
}

// subscribed reports whether a client has subscribed to a topic.
func subscribed(cl *mqtt.Client, name string) bool {
	for filter := range cl.State.Subscriptions.GetAll() {
		if topic.Matches(filter, name) {
			return true
		}
	}
	return false
}
