package interop

import (
	"testing"

	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/uplink"
)

// Behind a real proxy with an idle timeout, and with nothing to send, pings are sent
// often enough to keep the connection.
func TestMosquittoBehindAProxyWithAnIdleTimeout(t *testing.T) {
	m := daemontest.StartMosquitto(t)
	addr := m.BehindHAProxy("2s")
	l := connect(m, "thing-1", func(c *uplink.Config) { c.Endpoint = addr }, "test/topic")
	daemontest.Await(t, "a connection with pings of its own", l.status, func(s uplink.Status) bool { return s.Connected && s.PingEvery > 0 })
	// Five pings, one every 0.8 s, take twice the timeout. On a busy machine one may be
	// too late, and a new connection is made.
	if !m.AwaitState(func() bool { return m.Pings("thing-1") >= 5 }) {
		t.Error("no connection lasted for five pings")
	}
	settled(t, l.put("test/topic", 0, 5))
	l.hear(t, 0, 5)
}
