package interop

import (
	"testing"

	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/health"
	"fieldpost/daemon/uplink"
)

// Two clients with the same client id disconnect each other for ever. Each detects and
// reports that.
func TestMosquittoTwoClientsWithOneID(t *testing.T) {
	m := daemontest.StartMosquitto(t)
	one := connect(m, "thing-1", nil, "test/topic")
	one.connected(t)
	two := connect(m, "thing-1", nil, "test/topic")
	for _, l := range []*linked{one, two} {
		daemontest.Await(t, "word of the other client", l.status, func(s uplink.Status) bool {
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
