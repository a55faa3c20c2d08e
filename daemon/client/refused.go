package client

import (
	"context"
	"errors"
	"time"

	"fieldpost/daemon/awsiot/need"
	"fieldpost/daemon/health"
	"fieldpost/daemon/uplink"
	"fieldpost/daemon/uplink/mqtt5"
)

// Refused is an error for what a broker does not allow, with the statements that a policy of
// AWS IoT Core would need, as JSON.
type Refused struct {
	Err        error
	Statements []string
}

// Error is that of Err.
func (r *Refused) Error() string { return r.Err.Error() }

// Unwrap returns Err.
func (r *Refused) Unwrap() error { return r.Err }

const (
	refusalLimit = 15 * time.Second        // for the question why
	connectPause = 1100 * time.Millisecond // AWS IoT Core takes one CONNECT a second of a client id
)

// refusal completes the error of a command that did what q says, but for how to connect. Where
// the broker closed the connection without a reason it is asked over MQTT 5, under the same
// client id, for the connection before has ended. Other errors are returned as they are.
func (a Account) refusal(ctx context.Context, err error, q uplink.Question) error {
	var why *uplink.Explained
	if !errors.As(err, &why) {
		return err
	}
	if uplink.Inferred(err) || why.Err == nil && isRefusal(why.Code) {
		if asked := a.ask(ctx, q); asked != nil {
			err, why = asked, asked
		}
	}
	var statements []string
	switch health.Code(why.Code) {
	case health.ConnectRefused:
		statements = need.Statements(a.Endpoint, need.ToConnect(a.ClientID)...)
	case health.PublishDenied:
		statements = need.Statements(a.Endpoint, need.ToPublish(q.Pub.Topic, q.Pub.Retain)...)
	case health.SubscribeDenied:
		statements = need.Statements(a.Endpoint, need.ToSubscribe(q.Sub.Filter)...)
	}
	if len(statements) == 0 {
		return err
	}
	return &Refused{Err: err, Statements: statements}
}

func isRefusal(code string) bool { return health.Lookup(health.Code(code)).Refusal }

// ask returns the broker's reason; nil where it has none or does not speak MQTT 5.
func (a Account) ask(ctx context.Context, q uplink.Question) *uplink.Explained {
	ctx, cancel := context.WithTimeout(ctx, refusalLimit)
	defer cancel()
	pause := time.NewTimer(connectPause)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
		return nil
	}
	q.Probe = a.probe()
	r := mqtt5.Ask(ctx, q).Reason
	if r == nil {
		return nil
	}
	at := uplink.Disconnect{Phase: q.Phase, Endpoint: a.Endpoint, ClientID: a.ClientID, Topic: q.Pub.Topic}
	switch {
	case r.Packet == "CONNACK":
		at.Phase = uplink.Connecting
	case q.Phase == uplink.Subscribing:
		at.Topic = q.Sub.Filter
	}
	return uplink.ExplainReason(r, at)
}
