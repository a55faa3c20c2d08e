// Package endpoint parses a broker's address as people write it, in the configuration and on
// the command line.
package endpoint

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// DefaultPort is the port of MQTT over TLS, IANA's secure-mqtt.
const DefaultPort = "8883"

// Endpoint is a host and a port.
type Endpoint struct {
	Host string // a name in lower case, or an address without brackets
	Port string // a number from 1 to 65535
}

// schemes matches the beginning of a URL, RFC 3986, section 3.1.
var schemes = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(?i:[a-z][a-z0-9+.-]*)://`) })

// isHost reports whether text is a host name of RFC 1123 of any length. It accepts the underscore
// that local names have, and the dot at the end of an absolute name.
func isHost(text string) bool {
	for label := range strings.SplitSeq(strings.TrimSuffix(text, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || strings.ContainsFunc(label, notInHost) {
			return false
		}
	}
	return true
}

func notInHost(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-'
}

// endsInNumber reports whether the last label of a host is a number, as in an address.
func endsInNumber(host string) bool {
	host = strings.TrimSuffix(host, ".")
	label := host[strings.LastIndexByte(host, '.')+1:]
	return label != "" && strings.Trim(label, "0123456789") == ""
}

// Parse reads host, host:port, or an address of IPv6 with or without brackets.
// The error says what is wanted, and not what was given.
func Parse(text string) (Endpoint, error) {
	if strings.Contains(text, "://") {
		if scheme := schemes().FindString(text); scheme != "" {
			return Endpoint{}, fmt.Errorf("want host or host:port without the scheme %q; it is always MQTT over TLS", scheme)
		}
	}
	if strings.Contains(text, "/") {
		return Endpoint{}, errors.New("want host or host:port, nothing after it")
	}
	e := Endpoint{Host: text, Port: DefaultPort}
	inner, bracketed := strings.CutPrefix(text, "[")
	if bracketed {
		inner, bracketed = strings.CutSuffix(inner, "]")
	}
	if !bracketed {
		inner = text
	}
	if a, err := netip.ParseAddr(inner); err == nil && (!bracketed || a.Is6()) {
		e.Host = a.String()
		return e, nil
	}
	if strings.Contains(text, ":") {
		var err error
		if e.Host, e.Port, err = net.SplitHostPort(text); err != nil {
			return Endpoint{}, errors.New("want host or host:port")
		}
	}
	if n, err := strconv.Atoi(e.Port); err != nil || n < 1 || n > 65535 || strconv.Itoa(n) != e.Port {
		return Endpoint{}, errors.New("want a port of 1 to 65535 after the colon")
	}
	if a, err := netip.ParseAddr(e.Host); err == nil {
		e.Host = a.String()
		return e, nil
	}
	switch {
	case endsInNumber(e.Host):
		return Endpoint{}, errors.New("want a host's name, or an address of four numbers from 0 to 255 without leading zeros")
	case !isHost(e.Host) || len(e.Host) > 253:
		return Endpoint{}, errors.New("want a host's name or address, with or without a port")
	}
	e.Host = strings.ToLower(e.Host)
	return e, nil
}

// String returns host:port, the host in brackets where it is an address of IPv6.
func (e Endpoint) String() string { return net.JoinHostPort(e.Host, e.Port) }

// ServerName returns the name or address that the broker's certificate must be for: without
// the dot at the end of an absolute name, and without the interface of an address.
func (e Endpoint) ServerName() string {
	if a, err := netip.ParseAddr(e.Host); err == nil {
		return a.WithZone("").String()
	}
	return strings.TrimSuffix(e.Host, ".")
}
