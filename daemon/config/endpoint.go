package config

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// defaultPort is MQTT over TLS, IANA's secure-mqtt.
const defaultPort = "8883"

var (
	// hosts are RFC 1123's names, and the underscore that local names have.
	hosts   = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*\.?$`)
	schemes = regexp.MustCompile(`^[a-z][a-z0-9+.-]*://`)
)

// Endpoint gives the broker as host:port, with the port that is meant where
// none is written.
func (c *Config) Endpoint() string {
	host, port, err := splitEndpoint(c.Broker.Endpoint)
	if err != nil {
		return c.Broker.Endpoint // not from Load; whoever dials it will say so
	}
	return net.JoinHostPort(host, port)
}

func endpoint(v any) string {
	if _, _, err := splitEndpoint(v.(string)); err != nil {
		return err.Error()
	}
	return ""
}

// splitEndpoint reads host, host:port, or an address of IPv6 with or without
// brackets.
func splitEndpoint(s string) (host, port string, err error) {
	if scheme := schemes.FindString(s); scheme != "" {
		return "", "", fmt.Errorf("want host or host:port without the scheme %q; it is always MQTT over TLS", scheme)
	}
	if strings.Contains(s, "/") {
		return "", "", fmt.Errorf("want host or host:port, nothing behind it")
	}
	host, port = s, defaultPort
	if _, err := netip.ParseAddr(s); err == nil {
		return host, port, nil
	}
	if strings.Contains(s, ":") {
		if host, port, err = net.SplitHostPort(s); err != nil {
			return "", "", fmt.Errorf("want host or host:port")
		}
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 || strconv.Itoa(n) != port {
		return "", "", fmt.Errorf("want a port of 1 to 65535 behind the colon")
	}
	if _, err := netip.ParseAddr(host); err != nil && (!hosts.MatchString(host) || len(host) > 253) {
		return "", "", fmt.Errorf("want a host's name or address, with or without a port")
	}
	return host, port, nil
}
