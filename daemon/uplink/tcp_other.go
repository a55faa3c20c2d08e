//go:build !linux

package uplink

import (
	"context"
	"net"
)

// dialTCP opens an ordinary connection, because TCP_USER_TIMEOUT and TCP_QUICKACK exist only
// on Linux. The write deadline and the keep-alive still find a dead peer, but later.
func dialTCP(ctx context.Context, network, address string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, network, address)
}
