package uplink

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"

	"fieldpost/daemon/health"
)

// explainName is about a certificate that is for another name than the broker's.
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
	return explained(health.ServerUntrusted, fmt.Sprintf("Have the broker's certificate made anew with subjectAltName=%s%s; only that counts since 2017 (RFC 2818 and its successors), not the common name.", kind, e.Host),
		"the broker's certificate names no host: it has the common name %q and no subject alternative name", c.Subject.CommonName)
}

// explainInvalid is about a chain that cannot be used for another reason than its
// dates.
func explainInvalid(e x509.CertificateInvalidError) *Explained {
	subject := "nothing"
	if e.Cert != nil {
		subject = e.Cert.Subject.String()
	}
	switch e.Reason {
	case x509.IncompatibleUsage, x509.CANotAuthorizedForExtKeyUsage:
		return explained(health.ServerUntrusted, "Have the broker's certificate made anew with the extended key usage serverAuth.",
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

// explainAuthority is about a broker's certificate that leads to no root of ours.
func explainAuthority(e x509.UnknownAuthorityError, at Scene) *Explained {
	issuer, subject := "an unknown authority", ""
	if e.Cert != nil {
		issuer, subject = fmt.Sprintf("%q", e.Cert.Issuer.String()), e.Cert.Subject.String()
	}
	said := e.Error()
	switch {
	case strings.Contains(said, "insecure algorithm"):
		return explained(health.ServerUntrusted, "Have the certificate made anew, signed with SHA-256.", "the broker's certificate is signed by %s in a way that is not secure any more (SHA-1 or MD5)", issuer)
	case strings.Contains(said, "verification failure"), strings.Contains(said, "verification error"):
		return explained(health.ServerUntrusted, "Put the present certificate of that authority into broker.ca: it was made anew, with another key and the same name.",
			"broker.ca has a root with the name %s, but the broker's certificate is not signed with its key", issuer)
	case strings.Contains(said, "cannot sign this kind of certificate"):
		return explained(health.ServerUntrusted, "Put the certificate of the authority into broker.ca, and have it made with basicConstraints=CA:TRUE and, if it has a key usage, keyCertSign.",
			"the broker's certificate was issued by %s, and what broker.ca has of that name may not sign certificates", issuer)
	case e.Cert != nil && subject == e.Cert.Issuer.String():
		return explained(health.ServerUntrusted, "If it is the right broker, put that very certificate into broker.ca.", "the broker's certificate is signed by itself, %q, and broker.ca does not have it", subject)
	}
	hint := "Put the root that signed the broker's certificate into broker.ca; for AWS IoT Core that is AmazonRootCA1.pem."
	host := strings.ToLower(hostOf(at.Endpoint))
	if name, _, _ := strings.Cut(host, "."); strings.Contains(host, ".iot.") && strings.HasSuffix(host, ".amazonaws.com") && !strings.HasSuffix(name, "-ats") {
		hint = "Use the endpoint with -ats after its first part: the other one has a certificate of an old authority."
	}
	return explained(health.ServerUntrusted, hint, "the broker's certificate was issued by %s, which broker.ca does not vouch for", issuer)
}

// explainUnread is about a broker's certificate that cannot be read or used at
// all. The types of these errors are not exported by crypto/tls, their texts are.
func explainUnread(err error) *Explained {
	text := err.Error()
	if _, why, found := strings.Cut(text, "failed to parse certificate from server: "); found {
		return explained(health.ServerUntrusted, "Have the broker's certificate made anew.", "the broker's certificate %s", certificateTrouble(errors.New(why)))
	}
	for _, said := range []string{"server's certificate contains an unsupported type of public key", "server sent certificate containing RSA key larger than", "unsupported certificate curve"} {
		if strings.Contains(text, said) {
			return explained(health.ServerUntrusted, "Have the broker's certificate made anew, for a key of RSA with 2048 to 8192 bits, or EC on P-256 or P-384.", "the key of the broker's certificate is of a kind that TLS does not take")
		}
	}
	var verify *tls.CertificateVerificationError
	if errors.As(err, &verify) {
		return explained(health.ServerUntrusted, "Check broker.endpoint and broker.ca.", "the broker's certificate is not acceptable: %v", verify.Err)
	}
	return nil
}
