package mqtt5

import (
	"context"
	"errors"

	"fieldpost/daemon/uplink"
)

// Ask is an [uplink.Asker]. It connects, repeats the refused request and closes the
// connection. Any goroutine.
func Ask(ctx context.Context, q uplink.Question) uplink.Answer {
	c, err := Open(ctx, q.Probe)
	if errors.Is(err, ErrUnsupported) {
		return uplink.Answer{Unsupported: true}
	}
	if err != nil {
		return answer(err)
	}
	defer c.Close()
	switch q.Phase {
	case uplink.Subscribing:
		err = c.Subscribe(ctx, q.Sub)
	case uplink.Publishing:
		_, err = c.Publish(ctx, Publication{Topic: q.Pub.Topic, Payload: q.Pub.Payload, Retain: q.Pub.Retain})
	}
	return answer(err)
}

// answer makes an Answer from the result of the request.
func answer(err error) uplink.Answer {
	var r *uplink.Reason
	if errors.As(err, &r) {
		return uplink.Answer{Reason: r}
	}
	return uplink.Answer{Accepted: err == nil}
}
