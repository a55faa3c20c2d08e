package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"fieldpost/daemon/local"
)

// AskStatus asks the daemon whose socket is at path for its state. The error is
// or wraps one of package local's.
func AskStatus(ctx context.Context, path string) (Report, error) {
	var r Report
	err := local.Do(ctx, path, callStatus, nil, &r)
	return r, err
}

// ErrNotOurs is the reason when the daemon on a socket is another board's.
var ErrNotOurs = errors.New("the daemon here is another board's")

// AskOrder gives an order to the daemon whose socket is at path, stamped with
// a new id and its expiry, and waits for its answer until ctx ends. thing is the
// board it is for; "" is the daemon's. The answer always has the id; without an
// answer its status is unknown where the order may have been carried out, and
// otherwise empty. The error is [ErrNotOurs], or is or wraps one of package
// local's.
func AskOrder(ctx context.Context, path, thing string, r OrderRequest) (OrderAnswer, error) {
	id, payload := stamp(thing, r)
	var a OrderAnswer
	err := local.Do(ctx, path, callOrder, json.RawMessage(payload), &a)
	a.ID = id
	var said *local.Error
	switch {
	case errors.Is(err, local.ErrNoAnswer):
		a.Status = "unknown"
		return a, fmt.Errorf("order %s: %w", id, err)
	case errors.As(err, &said) && said.Code == notOurs:
		return a, fmt.Errorf("order for %q: %w: %w", thing, ErrNotOurs, err)
	}
	return a, err
}
