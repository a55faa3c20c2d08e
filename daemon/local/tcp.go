package local

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// address is a listening TCP port.
type address struct{ net.Listener }

// listenTCP listens on an IP address and port.
func listenTCP(at string) (listener, error) {
	// No keep-alive probes, because a connection is idle for at most 5 seconds.
	l, err := (&net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{Enable: false}, KeepAlive: -1}).Listen(context.Background(), "tcp", at)
	if err != nil {
		return nil, fmt.Errorf("open address for metrics: %w", err)
	}
	return address{l}, nil
}

// accept returns the next connection. Over TCP the user is unknown; each address counts as a
// user, with a share of the connections and calls.
func (a address) accept() (net.Conn, Peer, error) {
	c, err := a.Accept()
	if err != nil {
		return nil, Peer{}, fmt.Errorf("accept: %w", err)
	}
	return c, Peer{UID: shareOf(c.RemoteAddr())}, nil
}

// shareOf returns a number for the address of a caller: for IPv4 the address itself, for IPv6
// a hash of its /64 network, because whoever has one address there has all of them.
func shareOf(from net.Addr) uint32 {
	at, err := netip.ParseAddrPort(from.String())
	if err != nil {
		return 0
	}
	if ip := at.Addr().Unmap(); ip.Is4() {
		four := ip.As4()
		return binary.BigEndian.Uint32(four[:])
	}
	six := at.Addr().As16()
	h := fnv.New32a()
	_, _ = h.Write(six[:8]) // never fails
	return h.Sum32()
}

// intact reports true: a port stays until it is closed.
func (a address) intact() bool { return true }

// isOurs reports whether a request with this Host header is for us. On the unix socket every
// request is, because no browser can connect there.
func (s *Server) isOurs(host string) bool {
	return s.o.Address == "" || IsOurHost(host, s.o.Address, s.o.Hosts)
}

// IsOurHost reports whether a request with this Host header is for a server on address, an IP
// address and a port, to which hosts lead too. A loopback address or localhost always leads to
// the machine that the browser is on, and never to one that a page elsewhere has named.
func IsOurHost(host, address string, hosts []string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.ToLower(strings.Trim(name, "[]")), ".")
	if name == "localhost" {
		return true
	}
	if slices.ContainsFunc(hosts, func(h string) bool { return strings.TrimSuffix(strings.ToLower(h), ".") == name }) {
		return true
	}
	ip, err := netip.ParseAddr(name)
	if err != nil {
		return false
	}
	at, err := netip.ParseAddrPort(address)
	return ip.IsLoopback() || err == nil && ip.Unmap() == at.Addr().Unmap() ||
		slices.ContainsFunc(hosts, func(h string) bool { x, err := netip.ParseAddr(h); return err == nil && x == ip })
}
