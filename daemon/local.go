package daemon

import (
	"context"
	"encoding/json"

	"fieldpost/daemon/local"
)

// The calls of the local socket.
const (
	callStatus = "status"
)

// calls is what can be asked of the daemon on its socket.
func (d *Daemon) calls() map[string]local.Call {
	return map[string]local.Call{
		callStatus: func(context.Context, local.Peer, json.RawMessage) (any, error) { return d.report(), nil },
	}
}

// serveLocal keeps the socket until ctx ends; a daemon without one waits.
func (d *Daemon) serveLocal(ctx context.Context) error {
	if d.o.Socket == "" {
		<-ctx.Done()
		return ctx.Err()
	}
	return d.local.Run(ctx)
}

// AskStatus asks the daemon whose socket is at path for its state. The error is
// or wraps one of package local's.
func AskStatus(ctx context.Context, path string) (Report, error) {
	var r Report
	err := local.Do(ctx, path, callStatus, nil, &r)
	return r, err
}
