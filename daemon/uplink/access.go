package uplink

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"fieldpost/daemon/health"
	"fieldpost/daemon/visible"
)

// Access has what some brokers and networks require in addition to a certificate or instead
// of it. The zero Access has nothing, and uses the proxy of the environment.
type Access struct {
	Username string // in the CONNECT; "" is none
	// PasswordFile is the file with the password; one line end at its end is removed. "" is
	// no password. It is not used if the credential files have another owner.
	PasswordFile string
	// Proxy is the HTTP proxy through which TCP connections are made with CONNECT (RFC 9110,
	// section 9.3.6): http://[user:password@]host[:port]. "" uses HTTPS_PROXY and NO_PROXY of
	// the environment, "none" uses no proxy.
	Proxy string
	// ALPN is the protocol to offer in the TLS handshake. "" is x-amzn-mqtt-ca on port 443
	// and none on other ports; "none" is none.
	ALPN string
}

// DialFunc opens a network connection, as [net.Dialer.DialContext] does.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

const (
	none        = "none"
	maxPassword = 65535 // bytes (section 3.1.3.5)
	proxyAnswer = 16 << 10
)

// check returns what is wrong with an Access.
func (a Access) check() error {
	switch {
	case len(a.Username) > 0xffff || !utf8.ValidString(a.Username) || strings.ContainsRune(a.Username, 0):
		return fmt.Errorf("user name: want at most 65535 bytes of UTF-8 without NUL (got %q)", a.Username)
	case a.PasswordFile != "" && a.Username == "":
		return errors.New("password: needs a user name")
	case len(a.ALPN) > 255:
		return fmt.Errorf("alpn: want at most 255 bytes (got %d)", len(a.ALPN))
	}
	_, err := ParseProxy(a.Proxy)
	return err
}

// ParseProxy parses [Access.Proxy]. It returns nil if the text names no proxy.
func ParseProxy(text string) (*url.URL, error) {
	if text == "" || text == none {
		return nil, nil
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("proxy: want http://host:port") // err contains the password
	}
	if u.Scheme != "http" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("proxy: want http://host:port (got %q)", u.Redacted())
	}
	return u, nil
}

// ProxyFor returns the proxy for an endpoint, host:port, or nil for none.
func (a Access) ProxyFor(endpoint string) (*url.URL, error) {
	if a.Proxy != "" {
		return ParseProxy(a.Proxy)
	}
	u, err := http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: "https", Host: endpoint}})
	if err != nil || u == nil {
		return nil, err
	}
	return ParseProxy(u.String())
}

// Dial opens a TCP connection to an endpoint, host:port, through the proxy if there is one.
// dial opens the direct connection. If the proxy fails, the error is a [*ProxyError].
func (a Access) Dial(ctx context.Context, endpoint string, dial DialFunc) (net.Conn, error) {
	proxy, err := a.ProxyFor(endpoint)
	if err != nil {
		return nil, err
	}
	if proxy == nil {
		return dial(ctx, "tcp", endpoint)
	}
	port := proxy.Port()
	if port == "" {
		port = "80"
	}
	at := net.JoinHostPort(proxy.Hostname(), port)
	c, err := dial(ctx, "tcp", at)
	switch {
	case ctx.Err() != nil && err != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, &ProxyError{Proxy: at, Err: fmt.Errorf("cannot be reached: %w", err)}
	}
	if err := connectThrough(ctx, c, proxy, endpoint); err != nil {
		c.Close()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		var said *ProxyError
		if errors.As(err, &said) {
			said.Proxy = at
			return nil, said
		}
		return nil, &ProxyError{Proxy: at, Err: err}
	}
	return c, nil
}

// ProxyError is the error when a proxy does not connect.
type ProxyError struct {
	Proxy  string // host:port
	Status int    // the HTTP status of its answer; 0 if it did not answer
	Reason string // the text of the status
	Err    error  // the error if it did not answer
}

// Error returns the proxy's answer or the error.
func (e *ProxyError) Error() string {
	if e.Status != 0 {
		return fmt.Sprintf("proxy %s: %d %s", e.Proxy, e.Status, visible.Text(e.Reason))
	}
	return fmt.Sprintf("proxy %s: %v", e.Proxy, e.Err)
}

// connectThrough asks the proxy at the other end of c to connect to an endpoint.
func connectThrough(ctx context.Context, c net.Conn, proxy *url.URL, endpoint string) error {
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	request := "CONNECT " + endpoint + " HTTP/1.1\r\nHost: " + endpoint + "\r\n"
	if user := proxy.User; user != nil {
		password, _ := user.Password()
		request += "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)) + "\r\n"
	}
	if _, err := io.WriteString(c, request+"\r\n"); err != nil {
		return err
	}
	// Byte by byte, because the bytes after the header belong to TLS.
	var head []byte
	one := make([]byte, 1)
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		if len(head) == proxyAnswer {
			return errors.New("its answer is too long, or is not HTTP")
		}
		if _, err := io.ReadFull(c, one); err != nil {
			return fmt.Errorf("no answer: %w", err)
		}
		head = append(head, one[0])
		if len(head) == len("HTTP/1.") && string(head) != "HTTP/1." {
			return errors.New("its answer is not HTTP")
		}
	}
	line, _, _ := strings.Cut(string(head), "\r\n")
	_, line, _ = strings.Cut(line, " ")
	code, reason, _ := strings.Cut(line, " ")
	status, err := strconv.Atoi(code)
	switch {
	case err != nil || status < 100:
		return errors.New("its answer is not HTTP")
	case status/100 != 2:
		return &ProxyError{Status: status, Reason: reason}
	}
	return nil
}

// explainProxy explains that a proxy does not connect.
func explainProxy(err error, at Disconnect) *Explained {
	var p *ProxyError
	if !errors.As(err, &p) {
		return nil
	}
	switch {
	case p.Status == http.StatusProxyAuthRequired:
		return explained(health.ProxyRefused, "Put the user name and password of the proxy into broker.proxy: http://user:password@host:port.", "the proxy %s wants a user name and a password", p.Proxy)
	case p.Status == http.StatusForbidden, p.Status == http.StatusMethodNotAllowed, p.Status == http.StatusUnauthorized:
		return explained(health.ProxyRefused, "Have it allow CONNECT to that host and port; many allow port 443 only, which AWS IoT Core takes too.", "the proxy %s does not allow connections to %s", p.Proxy, at.Endpoint)
	case p.Status != 0:
		return explained(health.NetworkDown, "Check the network behind the proxy, and broker.endpoint.", "the proxy %s cannot connect to %s", p.Proxy, at.Endpoint)
	}
	return explained(health.NetworkDown, "Check broker.proxy, or HTTPS_PROXY in the environment; `broker.proxy: none` uses no proxy.", "the proxy %s makes no connection", p.Proxy)
}

// protocols returns the protocols to offer in the TLS handshake.
func (a Access) protocols(port string) []string {
	switch {
	case a.ALPN == none:
		return nil
	case a.ALPN != "":
		return []string{a.ALPN}
	case port == "443":
		return []string{alpn}
	}
	return nil
}

// password returns the password in a file's text, without one line end at the end.
func password(text []byte) []byte {
	text = bytes.TrimSuffix(text, []byte("\n"))
	return bytes.TrimSuffix(text, []byte("\r"))
}
