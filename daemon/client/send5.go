package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"fieldpost/daemon/api"
	"fieldpost/daemon/config"
	"fieldpost/daemon/uplink"
	"fieldpost/daemon/uplink/mqtt5"
)

const (
	openLimit = 10 * time.Second // until the CONNACK; a broker that does not answer may support only MQTT 3.1.1
	sendLimit = 20 * time.Second // from the CONNACK until the broker has the order
)

// errNobody is the error when the broker accepted an order and dropped it.
var errNobody = errors.New("no client has subscribed to the topic of orders, so the broker dropped it; is the daemon running, and does it use this broker?")

// sendOver5 is SendOrder over MQTT 5. The order expires at the broker when it expires at the
// board, so the broker drops an order that no board has fetched. The error is
// [mqtt5.ErrUnsupported] if the broker does not support MQTT 5; then nothing was sent.
func sendOver5(ctx context.Context, cfg *config.Config, clientID string, r OrderRequest, wait time.Duration) (a api.OrderAnswer, id string, err error) {
	opening, opened := context.WithTimeout(ctx, openLimit)
	defer opened()
	c, err := mqtt5.Open(opening, uplink.ProbeConfig{
		Endpoint: cfg.Endpoint(), ClientID: clientID, Clean: true,
		CA: cfg.Broker.CA, Certificate: cfg.Broker.Certificate, Key: cfg.Broker.Key, Access: AccessOf(cfg), KeepAlive: cfg.Broker.KeepAlive,
	})
	switch {
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		return a, "", fmt.Errorf("%w, or answers nothing: %w", mqtt5.ErrUnsupported, err)
	case err != nil:
		return a, "", err
	}
	defer c.Close()
	limited, cancel := context.WithTimeout(ctx, sendLimit)
	defer cancel()
	if wait > 0 {
		if err := c.Subscribe(limited, uplink.Subscription{Filter: cfg.AnswersTopic(), QoS: 1}); err != nil {
			return a, "", fmt.Errorf("no answer can come: %w", err)
		}
	}
	id, payload := stamp(cfg.Thing, r)
	a.ID = id
	taken, err := c.Publish(limited, mqtt5.Publication{Topic: cfg.CommandsTopic(), Payload: payload, Expiry: r.Life})
	switch {
	case err != nil:
		return a, id, fmt.Errorf("send order %s: %w", id, err)
	case !taken:
		return a, id, fmt.Errorf("send order %s: %w", id, errNobody)
	case wait == 0:
		return a, id, nil
	}
	waiting, stop := context.WithTimeout(ctx, wait)
	defer stop()
	err = c.Receive(waiting, func(m mqtt5.Message) bool {
		got, ok := answerTo(id, cfg.Thing, m.Payload)
		if ok {
			a = got
		}
		return ok
	})
	if err != nil {
		return a, id, fmt.Errorf("order %s was sent, but no answer came: %w", id, err)
	}
	return a, id, nil
}

// answerTo decodes a payload, and reports whether it is the answer to the order with this id.
func answerTo(id, thing string, payload []byte) (api.OrderAnswer, bool) {
	a, ok := answerOf(thing, payload)
	return a, ok && a.ID == id
}

// answerOf decodes a payload, and reports whether it is an answer of the board called thing.
func answerOf(thing string, payload []byte) (api.OrderAnswer, bool) {
	var a struct {
		Thing string `json:"thing"`
		Kind  string `json:"kind"`
		api.OrderAnswer
	}
	err := json.Unmarshal(payload, &a)
	return a.OrderAnswer, err == nil && a.Kind == "answer" && a.Thing == thing
}
