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

	"fieldpost/daemon/health"
)

// Phase is how far a connection had come when it ended.
type Phase int

// The phases, in their order.
const (
	Dialing       Phase = iota // resolving the name, opening the TCP connection
	Handshaking                // TLS
	Connecting                 // CONNECT was sent, the CONNACK has not come
	Subscribing                // SUBSCRIBE was sent, the SUBACK has not come
	Unsubscribing              // UNSUBSCRIBE was sent, the UNSUBACK has not come
	Publishing                 // messages were sent and are not acknowledged
	Idle                       // nothing was under way
)

// Scene is what was going on when a connection ended.
type Scene struct {
	Phase    Phase
	Endpoint string // host:port
	ClientID string
	Topic    string    // in Subscribing the filter, in Publishing the topic, if it is only one
	Now      time.Time // when certificates were verified
	// Repeated says that it has ended like this so often in a row that it was no
	// accident.
	Repeated       bool
	SessionPresent bool // the CONNACK said so
	Will           bool // there is one
	Willless       bool // a CONNECT without it was refused as well
	Persistent     bool // the session is to be kept
	// Lull, where it is not 0, is how long nothing had been sent when this connection
	// ended, as when the one before did; Every is how often pings go from now on.
	Lull, Every time.Duration
	Unseen      bool // in Handshaking: the broker has not asked for our certificate
}

var (
	errNoAck    = errors.New("no puback in 30 s")
	errNoSuback = errors.New("no suback in 15 s")
	errNoPing   = errors.New("no pingresp")
	errEnded    = errors.New("link ended")
	errFull     = errors.New("too many messages wait to be handled")
)

// Explain says what an error of a connection means and what to do about it;
// nil for nil. An [*Explained] is given back as it is.
func Explain(err error, at Scene) *Explained {
	if err == nil {
		return nil
	}
	var done *Explained
	if errors.As(err, &done) {
		return done
	}
	for _, look := range []func(error, Scene) *Explained{
		explainLull, explainServer, explainVersion, explainAlert, explainRefusal, explainHangUp, explainSilence, explainNetwork,
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

// explainLull is about a connection that ended because nothing was sent, as far as
// that is known: that the next one lasts is still to come.
func explainLull(_ error, at Scene) *Explained {
	if at.Lull == 0 {
		return nil
	}
	return explained(health.IdleTimeout, "Nothing needs to be done if this passes. Otherwise raise that timeout (HAproxy: timeout client, timeout server, timeout tunnel) on the way to the broker.",
		"something on the way to the broker, a proxy or a NAT, ends or forgets connections on which nothing has been sent for %v; a ping goes every %v from now on", at.Lull.Round(100*time.Millisecond), at.Every.Round(100*time.Millisecond))
}

// explainServer is about the broker's certificate.
func explainServer(err error, at Scene) *Explained {
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

// explainVersion is about a broker that answers with a TLS version that is too old.
// The error's type is not exported by crypto/tls, its text is.
func explainVersion(err error, at Scene) *Explained {
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

func explainDates(c *x509.Certificate, at Scene) *Explained {
	const layout = "2006-01-02 15:04 MST"
	now := at.Now.UTC().Format(layout)
	if at.Now.Before(c.NotBefore) {
		return explained(health.ClockWrong, "Let the clock synchronise: `timedatectl status`.",
			"the certificate %q is valid from %s, but this machine's clock says %s", c.Subject.CommonName, c.NotBefore.UTC().Format(layout), now)
	}
	return explained(health.ClockWrong, "If the clock is right, the broker needs a new certificate, or broker.ca a present root; otherwise let it synchronise: `timedatectl status`.",
		"the certificate %q expired on %s, by this machine's clock, which says %s", c.Subject.CommonName, c.NotAfter.UTC().Format(layout), now)
}

// explainAlert is about a TLS alert from the broker. Most are about our
// certificate. The alert's type is not exported by crypto/tls, its text is.
func explainAlert(err error, at Scene) *Explained {
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
	case at.Unseen && says("handshake failure"):
		return explained(health.TLSTooOld, "fieldpost speaks TLS 1.2 and 1.3 with ciphers that are held to be secure; let the broker allow them. A broker without any certificate of its own does the same.", "the broker found no cipher in common with us")
	case says("no application protocol"):
		return explained(health.ConnectRefused, "Use port 8883, unless the broker is AWS IoT Core.", "the broker at %s does not know the protocol name %q, which AWS IoT Core wants on port 443", at.Endpoint, alpn)
	case says("unrecognized name"):
		return explained(health.ServerUntrusted, "Check broker.endpoint.", "the broker does not know itself as %q", hostOf(at.Endpoint))
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

// explainRefusal is about a CONNACK that refuses.
func explainRefusal(err error, at Scene) *Explained {
	var r *refusal
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
	return refused(at, "the broker refused the client id %q", at.ClientID)
}

func refused(at Scene, what string, args ...any) *Explained {
	if at.Willless {
		what += ", also without a will"
	}
	return explained(health.ConnectRefused,
		fmt.Sprintf("On AWS IoT Core the certificate must be active and have a policy that allows iot:Connect on client/%s%s; elsewhere check the broker's access rules.", at.ClientID, attributes(at)), what, args...)
}

// attributes names what a policy may refuse of a CONNECT besides the client id.
func attributes(at Scene) string {
	var all []string
	if at.Will && !at.Willless {
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

// explainHangUp is about a connection that the other side ended: what it means
// depends on what we had just asked for.
func explainHangUp(err error, at Scene) *Explained {
	if !hungUp(err) {
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
		return explained(health.NetworkDown, "fieldpost tries again, and lets the session keep the subscription if it stays so.",
			"the broker ended the connection instead of ending the subscription to %q, of an earlier configuration", at.Topic)
	case Publishing:
		if at.Repeated && at.Topic != "" {
			return publishDenied(at.Topic)
		}
		return explained(health.NetworkDown, "fieldpost tries again; if it goes on, it finds out which topic the broker does not allow.", "the broker ended the connection before it acknowledged what was published")
	case Idle:
		if at.Repeated && at.SessionPresent {
			return explained(health.DuplicateClient, "Give every client a client id of its own: broker.client_id.", "the broker keeps ending our connection, as it does when another client connects with the client id %q", at.ClientID)
		}
		return explained(health.NetworkDown, "fieldpost connects again.", "the broker ended the connection")
	}
	return nil
}

// orRival is the other reason why a broker may hang up on the same thing again and
// again. It is found out only when it hangs up on nothing too.
const orRival = " If it is allowed, another client may be using our client id."

func subscribeDenied(filter string) *Explained {
	return explained(health.SubscribeDenied, allowSubscribe(filter)+orRival, "the broker does not allow the subscription to %q", filter)
}

func allowSubscribe(filter string) string {
	return fmt.Sprintf("On AWS IoT Core allow iot:Subscribe on topicfilter/%s and iot:Receive on topic/%[1]s; elsewhere check the broker's access rules.", filter)
}

func publishDenied(topic string) *Explained {
	return explained(health.PublishDenied,
		fmt.Sprintf("On AWS IoT Core allow iot:Publish on topic/%s; elsewhere check the broker's access rules. It is tried again, after a minute first and then less and less often."+orRival, topic),
		"the broker ends the connection whenever something is published to %q; the mail for it is kept", topic)
}

// explainSilence is about answers that did not come.
func explainSilence(err error, at Scene) *Explained {
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
		return explained(health.NoAcknowledgement, "fieldpost connects again; fewer orders at a time would help.", "messages came faster than they were handled, so the connection was ended and the broker keeps the rest")
	case errors.Is(err, errProtocol):
		return explained(health.NetworkDown, "Check that broker.endpoint is an MQTT 3.1.1 broker.", "what answers at %s sent something that is not MQTT", at.Endpoint)
	}
	return nil
}

// explainNetwork is about names, routes and time.
func explainNetwork(err error, at Scene) *Explained {
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
		return explained(health.NetworkDown, "Check the network: `ip route`.", "there is no way to %s", at.Endpoint)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT),
		errors.As(err, &timeout) && timeout.Timeout():
		return explained(health.NetworkDown, check, "%s did not answer in time%s", at.Endpoint, [Idle + 1]string{
			Handshaking: " (TLS handshake)", Connecting: " (CONNACK)"}[at.Phase])
	}
	return nil
}

// blamesCredentials reports whether a failure may come from the certificate,
// the key or the roots, so that others might do better.
func blamesCredentials(code string) bool {
	return health.Lookup(health.Code(code)).Credential
}

// needsPerson reports whether a failure will hardly pass by itself, so that
// trying often is of no use and a burden on the broker.
func needsPerson(code string) bool {
	return health.Lookup(health.Code(code)).Refusal
}

// hostOf gives the host of host:port.
func hostOf(endpoint string) string {
	host, _, err := net.SplitHostPort(endpoint)
	if err != nil {
		return endpoint
	}
	return host
}
