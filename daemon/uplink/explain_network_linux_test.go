package uplink

import (
	"net"
	"testing"
)

// Linux returns "network is unreachable" for a connection to a broadcast address, without
// sending anything.
func TestNetworkIsUnreachable(t *testing.T) {
	checkNetworkFailure(t, to(net.Dialer{}, "127.255.255.255:8883"), "there is no route to broker.test:8883")
}
