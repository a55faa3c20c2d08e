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

// Refused is the error when a broker does not allow something. Statements are the policy
// statements that AWS IoT Core would need to allow it, as JSON.
type Refused struct {
	Err        error
	Statements []string
}

// Error returns the text of Err.
func (r *Refused) Error() string { return r.Err.Error() }

// Unwrap returns Err.
func (r *Refused) Unwrap() error { return r.Err }

const (
	refusalLimit = 15 * time.Second        // time limit for asking over MQTT 5
	connectPause = 1100 * time.Millisecond // AWS IoT Core accepts one CONNECT per second and client id
)

// refusal turns err into a [*Refused] if the broker refused what q describes. If the broker
// closed the connection without a reason, refusal asks it again over MQTT 5. It uses the same
// client id; the first connection must have ended. Other errors are returned unchanged. q.Probe
// is not used.
func (a Account) refusal(ctx context.Context, err error, q uplink.Question) error {
	var why *uplink.Explained
	if !errors.As(err, &why) {
		return err
	}
	if uplink.Inferred(err) || why.Err == nil && isRefusal(why.Code) {
		if asked := a.askReason(ctx, q); asked != nil {
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

// askReason asks the broker over MQTT 5 why it refuses what q describes. It returns nil if the
// broker gives no reason or does not support MQTT 5.
func (a Account) askReason(ctx context.Context, q uplink.Question) *uplink.Explained {
	ctx, cancel := context.WithTimeout(ctx, refusalLimit)
	defer cancel()
	pause := time.NewTimer(connectPause)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
		return nil
	}
	q.Probe = a.probeConfig()
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
