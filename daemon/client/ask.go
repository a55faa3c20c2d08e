package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"fieldpost/daemon/api"
	"fieldpost/daemon/config"
	"fieldpost/daemon/health"
	"fieldpost/daemon/local"
	"fieldpost/daemon/sampler"
	"fieldpost/daemon/spool"
	"fieldpost/sensors"
	"fieldpost/sensors/board"
	"fieldpost/sensors/filter"
)

// AskStatus returns the state of the daemon whose socket is at path. The error is
// or wraps one of package local's, or is an [*api.Error].
func AskStatus(ctx context.Context, path string) (api.Status, error) {
	var r api.Status
	err := local.Do(ctx, path, api.GetStatus, nil, &r)
	return r, err
}

// ErrNotOurs is the error when the daemon on a socket is another board's.
var ErrNotOurs = errors.New("the daemon on this machine is for another board")

// AskOrder sends an order to the daemon whose socket is at path and waits for its
// answer until ctx ends. The order gets a new id and an expiry. thing is the board
// that the order is for; "" is the daemon's own. The returned answer always has
// the id. If no answer came, its status is "unknown" if the order may have been
// carried out, and empty if not. The error is or wraps [ErrNotOurs] or one of
// package local's.
func AskOrder(ctx context.Context, path, thing string, r OrderRequest) (api.OrderAnswer, error) {
	id, payload := stamp(thing, r)
	var a api.OrderAnswer
	err := local.Do(ctx, path, api.PostOrder, json.RawMessage(payload), &a)
	a.ID = id
	if errors.Is(err, local.ErrNoAnswer) {
		a.Status = "unknown"
		return a, fmt.Errorf("order %s: %w", id, err)
	}
	return a, wrapNotOurs(err, thing)
}

// wrapNotOurs adds [ErrNotOurs] to an error with the code [api.NotOurs].
func wrapNotOurs(err error, thing string) error {
	var said *api.Error
	if errors.As(err, &said) && said.Code == api.NotOurs {
		return fmt.Errorf("for %q: %w: %w", thing, ErrNotOurs, err)
	}
	return err
}

// AskRead asks the daemon whose socket is at path to read a sensor. thing is the
// board that is meant; "" is the daemon's own. The error is or wraps [ErrNotOurs]
// or one of package local's.
func AskRead(ctx context.Context, path, thing, sensor string) (api.Reading, error) {
	var r api.Reading
	err := local.Do(ctx, path, api.PostRead, api.ReadRequest{Thing: thing, Sensor: sensor}, &r)
	return r, wrapNotOurs(err, thing)
}

// ReadHere reads a sensor of cfg on the board b directly, without a daemon. It
// refuses if a daemon is running with that configuration, because the daemon owns
// the hardware. A fault of the sensor or its bus is returned as an [*api.Error],
// as a daemon would, with the fault's code and what to do.
func ReadHere(ctx context.Context, cfg *config.Config, b board.Board, s sensors.Config) (api.Reading, error) {
	if err := spool.InUse(cfg.Spool.Dir); err != nil {
		return api.Reading{}, fmt.Errorf("read %q: a daemon uses the hardware, but does not answer on this socket: %w", s.Name, err)
	}
	fields, err := sampler.Once(ctx, b, s)
	if err != nil {
		code := sampler.CodeOf(err)
		return api.Reading{}, &api.Error{Code: string(code), Text: err.Error(), Hint: health.Lookup(code).CureOf(sampler.PlaceOf(s))}
	}
	return api.Reading{Sensor: s.Name, Chip: s.Chip, Time: api.Time(time.Now()), Values: fields, Units: filter.Units(s)}, nil
}

// AskReconnect makes the daemon whose socket is at path connect to its broker now, and
// waits for the outcome until ctx ends. thing is the board that is meant; "" is the
// daemon's own. The error is or wraps [ErrNotOurs] or one of package local's.
func AskReconnect(ctx context.Context, path, thing string) (api.ReconnectAnswer, error) {
	var a api.ReconnectAnswer
	err := local.Do(ctx, path, api.PostReconnect, api.ReconnectRequest{Thing: thing}, &a)
	return a, wrapNotOurs(err, thing)
}
