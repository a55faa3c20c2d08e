//go:build !linux

package uplink

import (
	"context"
	"net"
)

// dialTCP opens a connection as it is: TCP_USER_TIMEOUT and TCP_QUICKACK are Linux's.
// The write deadline and the keep-alive find a dead peer all the same, only later.
func dialTCP(ctx context.Context, network, address string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, network, address)
}
