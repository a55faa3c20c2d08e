package uplink

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/health"
)

// dialer is [Config.Dial].
type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// resolving returns a dialer that asks this name server, or none if it is nil.
func resolving(server func(net.Conn)) dialer {
	ask := func(ctx context.Context, _, _ string) (net.Conn, error) {
		if server == nil {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		near, far := net.Pipe()
		go func() {
			defer far.Close()
			server(far)
		}()
		return near, nil
	}
	return (&net.Dialer{Resolver: &net.Resolver{PreferGo: true, Dial: ask}}).DialContext
}

// answering returns a name server that answers every query with this response code (RFC
// 1035, sections 4.1.1 and 4.2.2).
func answering(code byte) func(net.Conn) {
	return func(c net.Conn) {
		for {
			var size [2]byte
			if _, err := io.ReadFull(c, size[:]); err != nil {
				return
			}
			m := make([]byte, binary.BigEndian.Uint16(size[:]))
			if _, err := io.ReadFull(c, m); err != nil {
				return
			}
			m[2], m[3] = 0x81, 0x80|code // a response, with recursion available
			m[11] = 0                    // without additional records
			end := 12 + slices.Index(m[12:], 0) + 1 + 4
			if _, err := c.Write(slices.Concat(binary.BigEndian.AppendUint16(nil, uint16(end)), m[:end])); err != nil {
				return
			}
		}
	}
}

// silent is a name server that never answers.
func silent(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// to returns a dialer that connects to this address.
func to(d net.Dialer, address string) dialer {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return d.DialContext(ctx, network, address)
	}
}

// unanswered is a dialer's hook that blocks, like a network that loses everything.
func unanswered(ctx context.Context, _, _ string, _ syscall.RawConn) error {
	<-ctx.Done()
	return ctx.Err()
}

// closedPort returns an address of this machine where nothing listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, l.Close())
	return l.Addr().String()
}

// All failures to reach the broker are reported as the network's and retried after at
// most six seconds, and the link connects when the network is back.
func TestNetworkFailures(t *testing.T) {
	for name, c := range map[string]struct {
		dial dialer
		says string
	}{
		"no such name":          {resolving(answering(3)), `the name "broker.test" does not exist`},
		"name server fails":     {resolving(answering(2)), `the name "broker.test" cannot be resolved`},
		"name server is silent": {resolving(silent), `the name "broker.test" cannot be resolved`},
		"no way to name server": {resolving(nil), `the name "broker.test" cannot be resolved`},
		"nothing answers":       {to(net.Dialer{ControlContext: unanswered}, "127.0.0.1:8883"), "broker.test:8883 did not answer in time"},
		"nothing listens":       {to(net.Dialer{}, closedPort(t)), "nothing listens at broker.test:8883"},
	} {
		t.Run(name, func(t *testing.T) { checkNetworkFailure(t, c.dial, c.says) })
	}
}

func checkNetworkFailure(t *testing.T, dial dialer, says string) {
	const times = 8
	// What package net initialises at the first lookup must not belong to a synctest
	// bubble.
	if _, err := resolving(answering(3))(t.Context(), "tcp", "nowhere.test:1"); err == nil {
		t.Fatal("a name that does not exist was found")
	}
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := b.config()
		dials := 0
		c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if dials++; dials > times {
				return b.dial(ctx, network, address)
			}
			return dial(ctx, network, address)
		}
		var seen []error
		c.Observe = func(s Status) {
			if s.Err != nil && (len(seen) == 0 || seen[len(seen)-1] != s.Err) {
				seen = append(seen, s.Err)
			}
		}
		longest := time.Duration(0)
		l := runWaiting(t, c, func(below time.Duration) time.Duration {
			longest = below
			return 0
		})
		sent := l.queue.Publish("t", []byte("1"))
		began := time.Now()
		p := b.accept(false)
		if d := time.Since(began); d > times*(connectTimeout+2*time.Second) {
			t.Errorf("%d attempts took %v", times, d)
		}
		p.puback(p.delivery("t", "1"))
		synctest.Wait()
		for _, err := range seen {
			checkSays(t, err.(*Explained), health.NetworkDown, says)
		}
		if len(seen) != times || longest > backoffMaxUnreached/2 || longest == 0 {
			t.Errorf("%d failures were told, waits grew to %v", len(seen), longest)
		}
		if st := l.Status(); !st.Connected || st.Err != nil || settled(sent) != "acknowledged" {
			t.Errorf("afterwards: %+v", st)
		}
		l.end(t, p)
	})
}
