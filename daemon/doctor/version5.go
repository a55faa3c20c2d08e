package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/uplink"
	"fieldpost/daemon/uplink/mqtt5"
)

// askVersion5 repeats failed steps over MQTT 5, where the broker gives reasons. If no step
// has failed, it does not connect, so the daemon's session stays as it is.
func (e *exam) askVersion5(ctx context.Context) {
	if !e.hasFailed("connect", "will", "session", "subscribe", "publish", "retained", "same client id", "idle minute") {
		return
	}
	a := e.ordinary()
	a.will = a.will || e.hasFailed("will")
	ask := &version5{exam: e, attempt: a}
	before := e.report.Failed
	ask.step(ctx, "connect", fmt.Sprintf("as %q: the broker accepts it", e.report.ClientID), func(context.Context, *mqtt5.Conn) error { return nil })
	if e.hasFailed("connect") || e.report.Failed > before && !e.withoutWill {
		return
	}
	ask.attempt = e.ordinary()
	ask.subscriptions(ctx)
	ask.topics(ctx)
	if e.hasFailed("same client id", "idle minute") {
		ask.step(ctx, "idle", "the connection stayed open", func(ctx context.Context, c *mqtt5.Conn) error {
			ctx, cancel := context.WithTimeout(ctx, 2*rivalTime)
			defer cancel()
			err := c.Wait(ctx)
			if errors.Is(err, context.DeadlineExceeded) {
				return nil
			}
			return err
		})
	}
}

// hasFailed reports whether one of these steps failed.
func (e *exam) hasFailed(names ...string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return slices.Contains(e.failed, n) })
}

// version5 repeats steps over MQTT 5.
type version5 struct {
	*exam
	attempt     attempt // how to connect
	unsupported bool    // the broker does not speak MQTT 5
}

// step opens a connection for do. found is what is reported if do succeeds.
func (v *version5) step(ctx context.Context, name, found string, do func(ctx context.Context, c *mqtt5.Conn) error) {
	if v.unsupported {
		return
	}
	_ = v.exam.step(ctx, "mqtt 5 "+name, 2*answerLimit, func(ctx context.Context) (string, error) {
		c, err := v.open5(ctx, v.attempt)
		if errors.Is(err, mqtt5.ErrUnsupported) {
			v.unsupported = true
			return "", skip("%v", err)
		}
		if err != nil {
			return "", err
		}
		defer c.Close()
		return found, do(ctx, c)
	})
}

// subscriptions repeats the subscriptions if one of them failed.
func (v *version5) subscriptions(ctx context.Context) {
	if !v.hasFailed("subscribe") {
		return
	}
	for _, f := range v.needs(awsiot.ActionSubscribe, "topicfilter") {
		v.step(ctx, "subscribe", f+": granted", func(ctx context.Context, c *mqtt5.Conn) error {
			return c.Subscribe(ctx, uplink.Subscription{Filter: f, QoS: v.qos()})
		})
	}
}

// topics repeats the publishes if one of them failed.
func (v *version5) topics(ctx context.Context) {
	if v.hasFailed("publish") && !v.o.NoPublish {
		for _, t := range v.needs(awsiot.ActionPublish, "topic") {
			v.step(ctx, "publish", t+": accepted", func(ctx context.Context, c *mqtt5.Conn) error {
				return publish5(ctx, c, mqtt5.Publication{Topic: t, Payload: v.payload("publish")})
			})
		}
	}
	if v.hasFailed("retained") {
		t := v.cfg.ReadingsTopic("")
		v.step(ctx, "retained", t+": accepted", func(ctx context.Context, c *mqtt5.Conn) error {
			if err := publish5(ctx, c, mqtt5.Publication{Topic: t, Payload: v.payload("publish"), Retain: true}); err != nil {
				return err
			}
			return publish5(ctx, c, mqtt5.Publication{Topic: t, Retain: true})
		})
	}
}

// open5 connects over MQTT 5.
func (e *exam) open5(ctx context.Context, a attempt) (*mqtt5.Conn, error) {
	if err := e.pause(ctx); err != nil { // AWS IoT Core requires it, and our embedded broker may too
		return nil, err
	}
	c := e.probeConfig(a)
	if c.Will != nil {
		c.Will.Payload = e.payload("will")
	}
	e.connected = time.Now()
	return mqtt5.Open(ctx, c)
}

func publish5(ctx context.Context, c *mqtt5.Conn, p mqtt5.Publication) error {
	_, err := c.Publish(ctx, p)
	return err
}
