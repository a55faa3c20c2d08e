package client

import (
	"context"

	"fieldpost/daemon/api"
	"fieldpost/daemon/local"
)

// AskRenew makes the daemon whose socket is at path renew its certificate now, and waits until
// the new one is in use or ctx ends. thing is the board that is meant; "" is the daemon's own.
// The error is or wraps [ErrNotOurs] or one of package local's, or is an [*api.Error] that says
// why there is no new certificate.
func AskRenew(ctx context.Context, path, thing string) (api.RenewAnswer, error) {
	var a api.RenewAnswer
	err := local.Do(ctx, path, api.PostRenew, api.RenewRequest{Thing: thing}, &a)
	return a, wrapNotOurs(err, thing)
}
