package uplink

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"fieldpost/daemon/endpoint"
	"fieldpost/daemon/health"
	"fieldpost/daemon/identity"
)

// Phase is what a connection was doing when it ended.
type Phase int

// The phases, in their order.
const (
	Dialing       Phase = iota // resolving the name, opening the TCP connection
	Handshaking                // TLS
	Connecting                 // CONNECT was sent, the CONNACK has not come
	Subscribing                // SUBSCRIBE was sent, the SUBACK has not come
	Unsubscribing              // UNSUBSCRIBE was sent, the UNSUBACK has not come
	Publishing                 // messages were sent and are not acknowledged
	Idle                       // no request was pending
)

// Disconnect describes how a connection ended and what was going on.
type Disconnect struct {
	Phase    Phase
	Endpoint string // host:port
	ClientID string
	Topic    string    // in Subscribing the filter; in Publishing the topic, if there is only one
	Now      time.Time // the time for which certificates were verified
	// Repeated says that so many connections in a row have ended like this that it is not
	// chance.
	Repeated       bool
	SessionPresent bool // the CONNACK said so
	Will           bool // the CONNECT had a will
	WithoutWill    bool // a CONNECT without a will was refused too
	Persistent     bool // the CONNECT asked for a persistent session
	Username       string
	// Silence, if not 0, is how long nothing had been sent when this connection ended; the
	// one before ended after the same time. PingEvery is the interval of pings from now on.
	Silence, PingEvery  time.Duration
	CertificateNotAsked bool // in Handshaking: the broker has not asked for our certificate
}

// Explained is an error of the link, with its meaning and what to do.
type Explained struct {
	Code string // a fault's code, as in package health: "certificate_rejected"
	What string // one sentence: what the broker or the network did
	Hint string // one sentence: what to change
	Err  error  // the original error
}

// Error returns What and Err.
func (e *Explained) Error() string {
	if e.Err == nil {
		return e.What
	}
	return e.What + ": " + e.Err.Error()
}

// Unwrap returns Err.
func (e *Explained) Unwrap() error { return e.Err }

var (
	errNoAck    = errors.New("no puback in 30 s")
	errNoSuback = errors.New("no suback in 15 s")
	errNoPing   = errors.New("no pingresp")
	errEnded    = errors.New("disconnected")
	errOurs     = errors.New("fieldpost panicked; its log says where") // the owner of the task reports the place
	errFull     = errors.New("too many messages are waiting to be handled")
)

// Explain returns the meaning of an error of a connection and what to do. It returns nil for
// nil, and an [*Explained] unchanged.
func Explain(err error, at Disconnect) *Explained {
	if err == nil {
		return nil
	}
	var done *Explained
	if errors.As(err, &done) {
		return done
	}
	for _, look := range []func(error, Disconnect) *Explained{
		explainIdleTimeout, explainProxy, explainServer, explainVersion, explainAlert, explainRefusal, explainHangUp, explainSilence, explainNetwork,
	} {
		if e := look(err, at); e != nil {
			e.Err = err
			return e
		}
	}
	return &Explained{Code: string(health.NetworkDown), What: "the connection to " + at.Endpoint + " broke", Hint: "Check the network; fieldpost tries again.", Err: err}
}

func explained(code health.Code, hint, what string, args ...any) *Explained {
	return &Explained{Code: string(code), What: fmt.Sprintf(what, args...), Hint: hint}
}

// explainIdleTimeout explains a connection that probably ended because nothing was sent.
// Whether the next one lasts is not known yet.
func explainIdleTimeout(_ error, at Disconnect) *Explained {
	if at.Silence == 0 {
		return nil
	}
	return explained(health.IdleTimeout, "Nothing needs to be done if this passes. Otherwise raise that timeout (HAproxy: timeout client, timeout server, timeout tunnel) on the way to the broker.",
		"something on the way to the broker, a proxy or a NAT, ends or forgets connections on which nothing has been sent for %v; a ping goes every %v from now on", at.Silence.Round(100*time.Millisecond), at.PingEvery.Round(100*time.Millisecond))
}

// explainServer explains an error of the broker's certificate.
func explainServer(err error, at Disconnect) *Explained {
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &host):
		return explainName(host)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return explainDates(invalid.Cert, at)
	case errors.As(err, &invalid) && explainInvalid(invalid) != nil:
		return explainInvalid(invalid)
	case errors.As(err, &unknown):
		return explainAuthority(unknown, at)
	case errors.As(err, &record):
		return explained(health.NetworkDown, "Check the port in broker.endpoint: MQTT over TLS is usually on 8883.", "what answers at %s does not speak TLS", at.Endpoint)
	}
	return explainUnread(err)
}

// explainVersion explains that the broker's TLS version is too old. crypto/tls does not
// export the type of the error, so its text is compared.
func explainVersion(err error, at Disconnect) *Explained {
	_, version, found := strings.Cut(err.Error(), "selected unsupported protocol version ")
	if at.Phase != Handshaking || !found {
		return nil
	}
	if n, err := strconv.ParseUint(version, 16, 16); err == nil {
		version = tls.VersionName(uint16(n))
	}
	return tooOld("it offers " + version)
}

func tooOld(how string) *Explained {
	return explained(health.TLSTooOld, "Let the broker offer TLS 1.2 or 1.3 (mosquitto: tls_version tlsv1.2), with a certificate and ciphers that go with them.",
		"the broker's TLS is too old: %s, and fieldpost speaks nothing older than TLS 1.2", how)
}

func explainDates(c *x509.Certificate, at Disconnect) *Explained {
	const layout = "2006-01-02 15:04 MST"
	now := at.Now.UTC().Format(layout)
	if at.Now.Before(c.NotBefore) {
		return explained(health.ClockWrong, "Let the clock synchronise: `timedatectl status`.",
			"the certificate %q is valid from %s, but this machine's clock says %s", c.Subject.CommonName, c.NotBefore.UTC().Format(layout), now)
	}
	return explained(health.ClockWrong, "If the clock is right, the broker needs a new certificate, or broker.ca a current root; otherwise let it synchronise: `timedatectl status`.",
		"the certificate %q expired on %s, by this machine's clock, which says %s", c.Subject.CommonName, c.NotAfter.UTC().Format(layout), now)
}

// explainAlert explains a TLS alert from the broker. Most are about our certificate.
// crypto/tls does not export the type of the alert, so its text is compared.
func explainAlert(err error, at Disconnect) *Explained {
	if !isAlert(err) {
		return nil
	}
	text := err.Error()
	says := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(text, w) {
				return true
			}
		}
		return false
	}
	switch {
	case says("protocol version"):
		return tooOld("it refuses TLS 1.2 and 1.3")
	case says("insufficient security", "inappropriate fallback"):
		return explained(health.TLSTooOld, "fieldpost speaks TLS 1.2 and 1.3 with ciphers that are held to be secure; let the broker allow them.", "the broker has no cipher in common with us")
	case at.CertificateNotAsked && says("handshake failure"):
		return explained(health.TLSTooOld, "fieldpost speaks TLS 1.2 and 1.3 with ciphers that are held to be secure; let the broker allow them. A broker without any certificate of its own does the same.", "the broker found no cipher in common with us")
	case says("no application protocol"):
		return explained(health.ConnectRefused, "Use port 8883, unless the broker is AWS IoT Core.", "the broker at %s does not know the protocol name %q, which AWS IoT Core wants on port 443", at.Endpoint, alpn)
	case says("unrecognized name"):
		return explained(health.ServerUntrusted, "Check broker.endpoint.", "the broker does not recognise the name %q", hostOf(at.Endpoint))
	case says("internal error", "decode error", "unexpected message", "close notify", "user canceled"):
		return explained(health.NetworkDown, "fieldpost tries again; if it stays, look at the broker's log.", "the broker broke off the TLS handshake")
	case says("expired certificate"):
		return explained(health.CertificateRejected, "Put a new certificate and its key into place.", "the broker says that our certificate has expired")
	case says("unknown certificate authority", "unknown certificate"):
		return explained(health.CertificateRejected, "Register the certificate with this broker; on AWS IoT Core, in the account and region of the endpoint, and activate it.", "the broker does not know our certificate or who signed it")
	case says("unsupported certificate"):
		return explained(health.CertificateRejected, "Have one made with the extended key usage clientAuth, for a key of RSA with 2048 bits or EC on P-256; `fieldpost check` names the wrong usage.",
			"the broker says that our certificate is not made for a client, or that it does not take its kind of key")
	case says("revoked certificate"):
		return explained(health.CertificateRejected, "Put a new certificate and its key into place.", "the broker says that our certificate was revoked")
	}
	return explained(health.CertificateRejected, "Check that the certificate is active and registered with this broker, and not expired.", "the broker rejected our certificate")
}

// explainRefusal explains a CONNACK that refuses the connection.
func explainRefusal(err error, at Disconnect) *Explained {
	var r *connackRefusal
	if !errors.As(err, &r) {
		return nil
	}
	switch r.code {
	case 1:
		return explained(health.ConnectRefused, "fieldpost speaks MQTT 3.1.1 only; let the broker allow it.", "the broker does not speak MQTT 3.1.1")
	case 2:
		return explained(health.ConnectRefused, "Set another broker.client_id.", "the broker does not take the client id %q", at.ClientID)
	case 3:
		return explained(health.NetworkDown, "fieldpost tries again; if it stays, look at the broker's log.", "the broker says that it is not available")
	}
	if r.code == 4 {
		return loginRefused(at)
	}
	return notAuthorized(at)
}

// loginRefused explains that the broker does not accept the user name or the password, and
// says so.
func loginRefused(at Disconnect) *Explained {
	if at.Username == "" {
		return explained(health.LoginRefused, "Set broker.username and broker.password_file.", "the broker wants a user name and a password")
	}
	return explained(health.LoginRefused, "Check broker.username and the password in the file that broker.password_file names.", "the broker does not accept the user name %q or its password", at.Username)
}

// notAuthorized explains that the broker does not accept us and says so, unlike AWS IoT Core
// over MQTT 3.1.1. Some brokers say the same for a wrong password (mosquitto).
func notAuthorized(at Disconnect) *Explained {
	e := refused(at, "the broker refused the client id %q", at.ClientID)
	if at.Username != "" {
		e.What = fmt.Sprintf("the broker refused the user name %q with the client id %q", at.Username, at.ClientID)
		e.Hint = "Check broker.username, the password in the file that broker.password_file names, and the broker's access rules for this client id."
	} else {
		e.Hint += " If the broker wants a user name and a password, set broker.username and broker.password_file."
	}
	return e
}

func refused(at Disconnect, what string, args ...any) *Explained {
	if at.WithoutWill {
		what += ", also without a will"
	}
	return explained(health.ConnectRefused,
		fmt.Sprintf("On AWS IoT Core the certificate must be active and have a policy that allows iot:Connect on client/%s%s; elsewhere check the broker's access rules.", at.ClientID, attributes(at)), what, args...)
}

// attributes names what else in a CONNECT, apart from the client id, a policy may refuse.
func attributes(at Disconnect) string {
	var all []string
	if at.Will && !at.WithoutWill {
		all = append(all, "LastWill (or set broker.will: none)")
	}
	if at.Persistent {
		all = append(all, "PersistentConnect (the broker is to keep our session)")
	}
	if len(all) == 0 {
		return ""
	}
	return ", with " + strings.Join(all, " and ") + " if it has a condition on iot:ConnectAttributes"
}

// explainHangUp explains that the other side closed the connection. The meaning depends on
// what we had just requested.
func explainHangUp(err error, at Disconnect) *Explained {
	if !endedByPeer(err) {
		return nil
	}
	switch at.Phase {
	case Handshaking:
		return explained(health.NetworkDown, "Check the port in broker.endpoint: MQTT over TLS is usually on 8883. A firewall may be in between.", "what answers at %s ended the TLS handshake", at.Endpoint)
	case Connecting:
		const check = "Check that the certificate is active and registered with this broker, and not expired."
		switch {
		case wasReset(err) && at.Repeated:
			return explained(health.CertificateRejected, check, "the broker keeps resetting the connection right after the TLS handshake, probably because of our certificate")
		case wasReset(err):
			return explained(health.NetworkDown, "fieldpost tries again. If it stays so, it is probably our certificate: "+check, "the connection was reset right after the TLS handshake")
		}
		return refused(at, "the broker ended the connection instead of accepting the client id %q", at.ClientID)
	case Subscribing:
		if at.Repeated {
			return subscribeDenied(at.Topic)
		}
		return explained(health.NetworkDown, "fieldpost tries again. If it stays so, the broker does not allow it: "+allowSubscribe(at.Topic),
			"the broker ended the connection instead of answering the subscription to %q", at.Topic)
	case Unsubscribing:
		return explained(health.NetworkDown, "fieldpost tries again, and leaves the subscription in the session if this persists.",
			"the broker ended the connection instead of ending the subscription to %q, of an earlier configuration", at.Topic)
	case Publishing:
		if at.Repeated && at.Topic != "" {
			return publishDenied(at.Topic)
		}
		return explained(health.NetworkDown, "fieldpost tries again; if it happens again, it finds out which topic the broker does not allow.", "the broker ended the connection before it acknowledged what was published")
	case Idle:
		if at.Repeated && at.SessionPresent {
			return explained(health.DuplicateClient, "Give every client a client id of its own: broker.client_id.", "the broker keeps ending our connection, as it does when another client connects with the client id %q", at.ClientID)
		}
		return explained(health.NetworkDown, "fieldpost connects again.", "the broker ended the connection")
	}
	return nil
}

// orRival is the other possible cause when a broker hangs up on the same request again and
// again. It shows only when the broker also hangs up without a request.
const orRival = " If it is allowed, another client may be using our client id."

// SubscribeDenied explains that the broker does not allow a subscription.
func SubscribeDenied(filter string) *Explained { return subscribeDenied(filter) }

func subscribeDenied(filter string) *Explained {
	return explained(health.SubscribeDenied, allowSubscribe(filter)+orRival, "the broker does not allow the subscription to %q", filter)
}

func allowSubscribe(filter string) string {
	return fmt.Sprintf("On AWS IoT Core allow iot:Subscribe on topicfilter/%s and iot:Receive on topic/%[1]s; elsewhere check the broker's access rules.", filter)
}

func publishDenied(topic string) *Explained {
	return explained(health.PublishDenied,
		fmt.Sprintf("On AWS IoT Core allow iot:Publish on topic/%s; elsewhere check the broker's access rules. It is tried again, after a minute first and then less and less often."+orRival, topic),
		"the broker ends the connection whenever something is published to %q; its messages are kept", topic)
}

// explainSilence explains answers that did not come.
func explainSilence(err error, at Disconnect) *Explained {
	const again = "Check the network; fieldpost connects again."
	switch {
	case errors.Is(err, errNoAck):
		return explained(health.NoAcknowledgement, "A passing overload, or the broker discards what exceeds its rate; fieldpost sends it again.", "the broker did not acknowledge a message in time")
	case errors.Is(err, errNoSuback) && at.Phase == Unsubscribing:
		return explained(health.NoAcknowledgement, again, "the broker did not answer when the subscription to %q, of an earlier configuration, was to end", at.Topic)
	case errors.Is(err, errNoSuback):
		return explained(health.NoAcknowledgement, again, "the broker did not answer the subscription to %q", at.Topic)
	case errors.Is(err, errNoPing):
		return explained(health.NetworkDown, again, "the broker at %s has fallen silent", at.Endpoint)
	case errors.Is(err, errFull):
		return explained(health.NoAcknowledgement, "fieldpost connects again; fewer orders at a time would help.", "messages came faster than they were handled, so fieldpost ended the connection; the broker keeps the rest")
	case errors.Is(err, errProtocol):
		return explained(health.NetworkDown, "Check that broker.endpoint is an MQTT 3.1.1 broker.", "what answers at %s sent something that is not MQTT", at.Endpoint)
	}
	return nil
}

// explainNetwork explains errors of names, routes and timeouts.
func explainNetwork(err error, at Disconnect) *Explained {
	const check = "Check the network, its firewall, and broker.endpoint."
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return explained(health.NetworkDown, "Check the spelling of broker.endpoint, and the network's name server.", "the name %q does not exist", dns.Name)
	case errors.As(err, &dns):
		return explained(health.NetworkDown, "Check the network and its name server.", "the name %q cannot be resolved", dns.Name)
	case errors.Is(err, syscall.ECONNREFUSED):
		return explained(health.NetworkDown, "Check the port in broker.endpoint, and that the broker runs.", "nothing listens at %s", at.Endpoint)
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETDOWN):
		return explained(health.NetworkDown, "Check the network: `ip route`.", "there is no route to %s", at.Endpoint)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT),
		errors.As(err, &timeout) && timeout.Timeout():
		return explained(health.NetworkDown, check, "%s did not answer in time%s", at.Endpoint, [Idle + 1]string{
			Handshaking: " (TLS handshake)", Connecting: " (CONNACK)"}[at.Phase])
	}
	return nil
}

// blamesCredentials reports whether the certificate, the key or the roots may be the cause,
// so that others might work.
func blamesCredentials(code string) bool {
	return health.Lookup(health.Code(code)).Credential
}

// needsPerson reports whether a failure will hardly pass without a person. Frequent attempts
// would be useless and a burden on the broker.
func needsPerson(code string) bool {
	return health.Lookup(health.Code(code)).Refusal
}

// hostOf returns the host of an endpoint.
func hostOf(text string) string {
	at, err := endpoint.Parse(text)
	if err != nil {
		return text
	}
	return at.Host
}

// explainName explains that a certificate is for another name than the broker's.
func explainName(e x509.HostnameError) *Explained {
	const elsewhere = "Put the name that the certificate is for into broker.endpoint, or look for something that intercepts the connection."
	c := e.Certificate
	names := append([]string(nil), c.DNSNames...)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) > 0 {
		return explained(health.ServerUntrusted, elsewhere, "the broker's certificate is for %q and not for %q", names, e.Host)
	}
	kind := "DNS:"
	if net.ParseIP(e.Host) != nil {
		kind = "IP:"
	}
	return explained(health.ServerUntrusted, fmt.Sprintf("Have the broker's certificate reissued with subjectAltName=%s%s; only that counts since 2017 (RFC 2818 and its successors), not the common name.", kind, e.Host),
		"the broker's certificate names no host: it has the common name %q and no subject alternative name", c.Subject.CommonName)
}

// explainInvalid explains a chain that is invalid for another reason than its dates.
func explainInvalid(e x509.CertificateInvalidError) *Explained {
	subject := "nothing"
	if e.Cert != nil {
		subject = e.Cert.Subject.String()
	}
	switch e.Reason {
	case x509.IncompatibleUsage, x509.CANotAuthorizedForExtKeyUsage:
		return explained(health.ServerUntrusted, "Have the broker's certificate reissued with the extended key usage serverAuth.",
			"the broker's certificate is not made for servers (its extended key usage, or that of who signed it)")
	case x509.NotAuthorizedToSign:
		return explained(health.ServerUntrusted, "Put the certificate of the authority into broker.ca, and have it made with basicConstraints=CA:TRUE and, if it has a key usage, keyCertSign.",
			"the broker's certificate was signed by %q, which is not an authority", subject)
	case x509.TooManyIntermediates:
		return explained(health.ServerUntrusted, "Have the authority's certificate made with a larger pathlen, or fewer authorities between it and the broker.",
			"there are more authorities between broker.ca and the broker's certificate than %q allows", subject)
	case x509.CANotAuthorizedForThisName, x509.NameConstraintsWithoutSANs, x509.UnconstrainedName, x509.NameMismatch, x509.TooManyConstraints:
		return explained(health.ServerUntrusted, "Have the broker's certificate signed by an authority that may sign for its name.",
			"the authority of the broker's certificate may not sign for that name: %v", e)
	}
	return nil
}

// explainAuthority explains that the broker's certificate leads to none of our roots.
func explainAuthority(e x509.UnknownAuthorityError, at Disconnect) *Explained {
	issuer, subject := "an unknown authority", ""
	if e.Cert != nil {
		issuer, subject = fmt.Sprintf("%q", e.Cert.Issuer.String()), e.Cert.Subject.String()
	}
	said := e.Error()
	switch {
	case strings.Contains(said, "insecure algorithm"):
		return explained(health.ServerUntrusted, "Have the certificate reissued, signed with SHA-256.", "the broker's certificate is signed by %s in a way that is not secure any more (SHA-1 or MD5)", issuer)
	case strings.Contains(said, "verification failure"), strings.Contains(said, "verification error"):
		return explained(health.ServerUntrusted, "Put the current certificate of that authority into broker.ca: it was reissued, with another key and the same name.",
			"broker.ca has a root with the name %s, but the broker's certificate is not signed with its key", issuer)
	case strings.Contains(said, "cannot sign this kind of certificate"):
		return explained(health.ServerUntrusted, "Put the certificate of the authority into broker.ca, and have it made with basicConstraints=CA:TRUE and, if it has a key usage, keyCertSign.",
			"the broker's certificate was issued by %s, and what broker.ca has of that name may not sign certificates", issuer)
	case e.Cert != nil && subject == e.Cert.Issuer.String():
		return explained(health.ServerUntrusted, "If it is the right broker, put its certificate into broker.ca.", "the broker's certificate is self-signed, %q, and broker.ca does not have it", subject)
	}
	hint := "Put the root that signed the broker's certificate into broker.ca; for AWS IoT Core that is AmazonRootCA1.pem."
	host := strings.ToLower(hostOf(at.Endpoint))
	if name, _, _ := strings.Cut(host, "."); strings.Contains(host, ".iot.") && strings.HasSuffix(host, ".amazonaws.com") && !strings.HasSuffix(name, "-ats") {
		hint = "Use the endpoint with -ats after its first part: the other one has a certificate of an old authority."
	}
	return explained(health.ServerUntrusted, hint, "the broker's certificate was issued by %s, which is not among the roots in broker.ca", issuer)
}

// explainUnread explains that the broker's certificate cannot be parsed or used at all.
// crypto/tls does not export the types of these errors, so their texts are compared.
func explainUnread(err error) *Explained {
	text := err.Error()
	if _, why, found := strings.Cut(text, "failed to parse certificate from server: "); found {
		return explained(health.ServerUntrusted, "Have the broker's certificate reissued.", "the broker's certificate %s", identity.CertificateProblem(errors.New(why)))
	}
	for _, said := range []string{"server's certificate contains an unsupported type of public key", "server sent certificate containing RSA key larger than", "unsupported certificate curve"} {
		if strings.Contains(text, said) {
			return explained(health.ServerUntrusted, "Have the broker's certificate reissued, for a key of RSA with 2048 to 8192 bits, or EC on P-256 or P-384.", "the key of the broker's certificate is of a kind that TLS does not take")
		}
	}
	var verify *tls.CertificateVerificationError
	if errors.As(err, &verify) {
		return explained(health.ServerUntrusted, "Check broker.endpoint and broker.ca.", "the broker's certificate is not acceptable: %v", verify.Err)
	}
	return nil
}
