package uplink

import (
	"net"
	"testing"
)

// Linux says that a network is unreachable when asked to connect to a broadcast
// address, and sends nothing.
func TestNetworkIsUnreachable(t *testing.T) {
	checkNetworkFailure(t, to(net.Dialer{}, "127.255.255.255:8883"), "there is no route to broker.test:8883")
}
