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

// askVersion5 asks again over MQTT 5 what failed. Where nothing failed nothing is
// asked, so that the session of the daemon is left as it is.
func (e *exam) askVersion5(ctx context.Context) {
	failed := func(names ...string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return slices.Contains(e.failed, n) })
	}
	if !failed("connect", "will", "session", "subscribe", "publish", "retained", "same client id", "idle minute") {
		return
	}
	a := e.ordinary()
	a.will = a.will || failed("will")
	var not5 bool
	ask := func(name, found string, do func(ctx context.Context, c *mqtt5.Conn) error) {
		if not5 {
			return
		}
		_ = e.step(ctx, "mqtt 5 "+name, 2*answerLimit, func(ctx context.Context) (string, error) {
			c, err := e.open5(ctx, a)
			if errors.Is(err, mqtt5.ErrUnsupported) {
				not5 = true
				return "", skip("%v", err)
			}
			if err != nil {
				return "", err
			}
			defer c.Close()
			return found, do(ctx, c)
		})
	}
	before := e.report.Failed
	ask("connect", fmt.Sprintf("as %q: the broker accepts it", e.report.ClientID), func(context.Context, *mqtt5.Conn) error { return nil })
	if failed("connect") || e.report.Failed > before && !e.withoutWill {
		return
	}
	a = e.ordinary()
	if failed("subscribe") {
		for _, f := range e.needs(awsiot.ActionSubscribe, "topicfilter") {
			ask("subscribe", f+": granted", func(ctx context.Context, c *mqtt5.Conn) error {
				return c.Subscribe(ctx, uplink.Subscription{Filter: f, QoS: e.qos()})
			})
		}
	}
	if failed("publish") && !e.o.NoPublish {
		for _, t := range e.needs(awsiot.ActionPublish, "topic") {
			ask("publish", t+": taken", func(ctx context.Context, c *mqtt5.Conn) error {
				return publish5(ctx, c, mqtt5.Publication{Topic: t, Payload: e.payload("publish")})
			})
		}
	}
	if failed("retained") {
		t := e.cfg.ReadingsTopic("")
		ask("retained", t+": taken", func(ctx context.Context, c *mqtt5.Conn) error {
			if err := publish5(ctx, c, mqtt5.Publication{Topic: t, Payload: e.payload("publish"), Retain: true}); err != nil {
				return err
			}
			return publish5(ctx, c, mqtt5.Publication{Topic: t, Retain: true})
		})
	}
	if failed("same client id", "idle minute") {
		ask("idle", "the connection stood", func(ctx context.Context, c *mqtt5.Conn) error {
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

// open5 connects over MQTT 5.
func (e *exam) open5(ctx context.Context, a attempt) (*mqtt5.Conn, error) {
	if err := e.pause(ctx); err != nil { // AWS IoT Core wants it, and so may a stand-in
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
