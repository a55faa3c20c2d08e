package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"fieldpost/daemon/api"
	"fieldpost/daemon/command"
	"fieldpost/daemon/local"
	"fieldpost/daemon/sampler"
	"fieldpost/daemon/task"
	"fieldpost/sensors/filter"
)

// readPatience is how long a reading may take.
const readPatience = 30 * time.Second

// Of an order that somebody waits for on the socket.
const (
	orderPatience = time.Minute            // until he is told that it is still under way
	orderGrace    = 300 * time.Millisecond // the same, when the daemon stops
)

// socketCalls is a daemon as it is asked on its socket.
type socketCalls struct{ *Daemon }

// endpoints is what can be asked of the daemon on its socket.
func (d socketCalls) endpoints() []local.Endpoint {
	return []local.Endpoint{
		{Route: api.GetStatus, Call: func(context.Context, local.Peer, json.RawMessage) (any, error) { return d.report(), nil }},
		{Route: api.PostOrder, Urgent: true, Call: func(ctx context.Context, from local.Peer, body json.RawMessage) (any, error) {
			return d.localOrder(ctx, body, "local "+from.String())
		}},
		{Route: api.PostRead, Call: func(ctx context.Context, _ local.Peer, body json.RawMessage) (any, error) {
			return d.localRead(ctx, body)
		}},
		{Route: api.PostReconnect, Call: func(ctx context.Context, from local.Peer, body json.RawMessage) (any, error) {
			return d.localReconnect(ctx, body, "local "+from.String())
		}},
		{Route: api.PostRenew, Call: func(ctx context.Context, from local.Peer, body json.RawMessage) (any, error) {
			return localRenew(ctx, d.Daemon, body, "local "+from.String())
		}},
		{Route: api.PostReload, Call: func(ctx context.Context, from local.Peer, _ json.RawMessage) (any, error) {
			return d.localReload(ctx, "local "+from.String())
		}},
		{Route: api.PostDiff, Call: func(ctx context.Context, _ local.Peer, _ json.RawMessage) (any, error) {
			return d.localDiff(ctx)
		}},
		d.getMetrics(),
		{Route: api.GetHistory, Call: func(_ context.Context, _ local.Peer, query json.RawMessage) (any, error) {
			return d.localHistory(query)
		}},
		{Route: api.GetDocument, Call: func(context.Context, local.Peer, json.RawMessage) (any, error) {
			return json.RawMessage(api.Document), nil
		}},
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

// localOrder carries out an order from the socket as any other. Its answer is
// for who gave it, and not for the broker, where nobody knows its id; that the
// output has changed, and through whom, is an event and is told there.
func (d socketCalls) localOrder(ctx context.Context, order json.RawMessage, cause string) (any, error) {
	type result struct {
		answer command.Answer
		ours   bool
	}
	done := make(chan result, 1)
	task.NewGroup(ctx).Go("local order", func() { // a line may hang in the kernel for ever
		a, ours := d.dispatcher.Handle(order, false, cause)
		done <- result{a, ours}
	})
	patient, cancel := context.WithTimeout(context.WithoutCancel(ctx), orderPatience)
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(orderGrace, cancel) })()
	select {
	case r := <-done:
		if !r.ours {
			return nil, d.notOurs("order")
		}
		return answerOf(r.answer), nil
	case <-patient.Done():
		return api.OrderAnswer{Status: string(command.Unknown), Hint: "it is still under way; `fieldpost status` shows the output's state"}, nil
	}
}

// answerOf gives an answer as it is on the wire. One without a status is none:
// the order was dropped before it was begun.
func answerOf(a command.Answer) api.OrderAnswer {
	if a.Status == "" {
		return api.OrderAnswer{ID: a.ID, Status: string(command.Refused), Hint: "the daemon is stopping; nothing was done"}
	}
	return api.OrderAnswer{ID: a.ID, Status: string(a.Status), Output: a.Output, State: a.State, Level: a.Level.Pointer(), Reason: string(a.Reason), Hint: a.Hint}
}

func (d *Daemon) notOurs(what string) *api.Error {
	return &api.Error{Code: api.NotOurs, Text: fmt.Sprintf("this is no %s for the board %q", what, d.config().Thing)}
}

// localRead reads a sensor for somebody, beside its schedule.
func (d socketCalls) localRead(ctx context.Context, body json.RawMessage) (any, error) {
	var call api.ReadRequest
	if err := local.Arguments(body, &call); err != nil {
		return nil, err
	}
	if call.Thing != "" && call.Thing != d.config().Thing {
		return nil, d.notOurs("reading")
	}
	ctx, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	stamp, fields, err := d.sampler.Read(ctx, call.Sensor)
	var failed *sampler.ReadError
	switch {
	case errors.Is(err, sampler.ErrUnknown):
		return nil, &api.Error{Code: api.UnknownSensor, Text: fmt.Sprintf("the daemon has no sensor %q; it has: %s", call.Sensor, strings.Join(sensorNames(d.config().Sensors), ", "))}
	case errors.As(err, &failed):
		return nil, &api.Error{Code: string(failed.Code), Text: fmt.Sprintf("read %q: %v", call.Sensor, err), Hint: d.health.CureOf(failed.Code, call.Sensor)}
	case err != nil:
		return nil, err
	}
	r := api.Reading{Sensor: call.Sensor, Time: api.Time(stamp.Wall), ClockSynced: stamp.Synced, Values: fields}
	for _, c := range d.config().Sensors {
		if c.Name == call.Sensor {
			r.Chip, r.Units = c.Chip, filter.Units(c)
		}
	}
	return r, nil
}
