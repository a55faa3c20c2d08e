package daemon_test

import (
	"testing"

	"fieldpost/daemon/health"
	"fieldpost/daemon/uplink"
)

// Two clients with one client id throw each other out, for ever. Each finds out
// and says so.
func TestMosquittoTwoClientsWithOneID(t *testing.T) {
	m := startMosquitto(t)
	one := m.link("thing-1", nil, "test/topic")
	one.connected(t)
	two := m.link("thing-1", nil, "test/topic")
	for _, l := range []*linked{one, two} {
		until(t, "word of the other client", l.status, func(s uplink.Status) bool {
			why, _ := s.Err.(*uplink.Explained)
			return why != nil && why.Code == string(health.DuplicateClient)
		})
	}
	if err := two.stop(); err != nil {
		t.Fatal(err)
	}
	settled(t, one.put("test/topic", 0, 5))
	one.hear(t, 0, 5)
}
