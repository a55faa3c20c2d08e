package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"fieldpost/daemon/command"
	"fieldpost/daemon/local"
)

// The calls of the local socket.
const (
	callStatus = "status" // takes nothing, gives a [Report]
	callOrder  = "order"  // takes an order as it comes by MQTT, gives an [OrderAnswer]
)

// notOurs is the code of the error for an order to another board.
const notOurs = "not_ours"

// Of an order that somebody waits for on the socket.
const (
	orderPatience = time.Minute            // until he is told that it is still under way
	orderGrace    = 300 * time.Millisecond // the same, when the daemon stops
)

// calls is what can be asked of the daemon on its socket.
func (d *Daemon) calls() map[string]local.Call {
	return map[string]local.Call{
		callStatus: func(context.Context, local.Peer, json.RawMessage) (any, error) { return d.report(), nil },
		callOrder: func(ctx context.Context, from local.Peer, with json.RawMessage) (any, error) {
			return d.localOrder(ctx, with, "local "+from.String())
		},
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
func (d *Daemon) localOrder(ctx context.Context, order json.RawMessage, cause string) (any, error) {
	type result struct {
		answer command.Answer
		ours   bool
	}
	done := make(chan result, 1)
	go func() { // a line may hang in the kernel for ever
		a, ours := d.desk.Handle(order, false, cause)
		done <- result{a, ours}
	}()
	patient, cancel := context.WithTimeout(context.WithoutCancel(ctx), orderPatience)
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(orderGrace, cancel) })()
	select {
	case r := <-done:
		if !r.ours {
			return nil, &local.Error{Code: notOurs, Text: fmt.Sprintf("this is no order for the board %q", d.o.Config.Thing)}
		}
		return answerOf(r.answer), nil
	case <-patient.Done():
		return OrderAnswer{Status: string(command.Unknown), Hint: "it is still under way; `fieldpost status` tells the output's state"}, nil
	}
}

// answerOf gives an answer as it is on the wire. One without a status is none:
// the order was dropped before it was begun.
func answerOf(a command.Answer) OrderAnswer {
	if a.Status == "" {
		return OrderAnswer{ID: a.ID, Status: string(command.Refused), Hint: "the daemon is stopping; nothing was done"}
	}
	return OrderAnswer{ID: a.ID, Status: string(a.Status), Output: a.Output, State: a.State, Reason: string(a.Reason), Hint: a.Hint}
}
