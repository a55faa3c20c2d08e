package client

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"fieldpost/daemon/api"
	"fieldpost/daemon/config"
	"fieldpost/daemon/output"
	"fieldpost/daemon/task"
	"fieldpost/daemon/uplink"
	"fieldpost/daemon/uplink/mqtt5"
)

// OrderRequest is an order to be sent.
type OrderRequest struct {
	Output string
	Action string        // on, off, toggle, pulse, set
	Level  float64       // of the action set, in percent
	For    time.Duration // how long the output stays on; 0 is without an end
	Life   time.Duration // how long from now the order is valid
}

// Orderer sends orders over MQTT and waits for their answers. It has a link of its
// own, with a clean session.
type Orderer struct {
	cfg   *config.Config
	queue *uplink.Queue
	link  *uplink.Link
	up    chan uplink.Status // the latest status, capacity one

	mu      sync.Mutex
	waiting map[string]chan api.OrderAnswer
}

// NewOrderer makes an Orderer for the board that cfg describes.
func NewOrderer(cfg *config.Config, clientID string, log *slog.Logger) (*Orderer, error) {
	if cfg.CommandsTopic() == "" {
		return nil, noOrdersTopic(cfg)
	}
	o := &Orderer{cfg: cfg, queue: uplink.NewQueue(), waiting: map[string]chan api.OrderAnswer{}, up: make(chan uplink.Status, 1)}
	var err error
	o.link, err = uplink.New(uplink.Config{
		Endpoint: cfg.Endpoint(), ClientID: clientID, Clean: true,
		CA: cfg.Broker.CA, Certificate: cfg.Broker.Certificate, Key: cfg.Broker.Key, Access: AccessOf(cfg), KeepAlive: cfg.Broker.KeepAlive,
		Subscriptions: []uplink.Subscription{{Filter: cfg.AnswersTopic(), QoS: 1}},
		Outbox:        o.queue, Observe: keepLatestAndLog(o.up, log),
	})
	return o, err
}

func noOrdersTopic(cfg *config.Config) error {
	return errors.New("send order: commands.topic is not set in " + cfg.File)
}

// keepLatest returns an observer that keeps only the newest status in ch, whose
// capacity is one.
func keepLatest(ch chan uplink.Status) func(uplink.Status) {
	return func(s uplink.Status) {
		select {
		case <-ch:
		default:
		}
		ch <- s
	}
}

// keepLatestAndLog returns an observer like keepLatest that also logs when an
// established connection is lost. It does not log a failure of the first connection,
// because the command returns that as its error.
func keepLatestAndLog(ch chan uplink.Status, log *slog.Logger) func(uplink.Status) {
	keep, wasUp := keepLatest(ch), false
	return func(s uplink.Status) {
		if wasUp && !s.Connected && s.Err != nil {
			log.Warn("not connected", "err", s.Err)
		}
		wasUp = wasUp || s.Connected
		keep(s)
	}
}

// Run keeps the link connected and receives answers until ctx ends.
func (o *Orderer) Run(ctx context.Context) error {
	failed := make(chan error, 1)
	linking := task.Start("link", failed, o.link.Run)
	for {
		select {
		case <-ctx.Done():
			return linking.Stop(10 * time.Second)
		case err := <-failed:
			return err
		case m := <-o.link.Messages():
			o.receive(m)
		}
	}
}

// Connected waits until the link is connected. The error is the first failure.
func (o *Orderer) Connected(ctx context.Context) error { return connected(ctx, o.up) }

// connected waits until a link is connected. It returns the first failure as an error and
// waits for no retry, because a person is waiting.
func connected(ctx context.Context, up <-chan uplink.Status) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case s := <-up:
			if len(s.Denied) > 0 {
				return fmt.Errorf("the broker does not allow the subscription to %q, so no answer can come", s.Denied)
			}
			if s.Connected {
				return nil
			}
			if s.Err != nil {
				return s.Err
			}
		}
	}
}

// receive passes an answer to the Send that waits for it.
func (o *Orderer) receive(m uplink.Message) {
	defer m.Ack()
	a, ok := answerOf(o.cfg.Thing, m.Payload)
	if !ok {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if ch, ok := o.waiting[a.ID]; ok {
		delete(o.waiting, a.ID)
		ch <- a
	}
}

// Send sends one order and waits for its answer until ctx ends. The order gets a new id
// and an expiry. If no answer comes, the error contains the id.
func (o *Orderer) Send(ctx context.Context, r OrderRequest) (api.OrderAnswer, error) {
	id, payload := stamp(o.cfg.Thing, r)
	ch := make(chan api.OrderAnswer, 1)
	o.mu.Lock()
	o.waiting[id] = ch
	o.mu.Unlock()
	defer func() {
		o.mu.Lock()
		delete(o.waiting, id)
		o.mu.Unlock()
	}()
	if err := await(ctx, o.queue.Publish(o.cfg.CommandsTopic(), payload)); err != nil {
		return api.OrderAnswer{ID: id}, fmt.Errorf("send order %s: %w", id, err)
	}
	select {
	case a := <-ch:
		return a, nil
	case <-ctx.Done():
		return api.OrderAnswer{ID: id}, fmt.Errorf("order %s was sent, but no answer came: %w", id, ctx.Err())
	}
}

// Post sends one order and waits only for the broker's acknowledgement.
func (o *Orderer) Post(ctx context.Context, r OrderRequest) (id string, err error) {
	id, payload := stamp(o.cfg.Thing, r)
	return id, await(ctx, o.queue.Publish(o.cfg.CommandsTopic(), payload))
}

// await waits for the broker's acknowledgement of a publish.
func await(ctx context.Context, done <-chan error) error {
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("no acknowledgement from the broker: %w", ctx.Err())
	}
}

// stamp gives an order a new id and an expiry, and encodes it. If thing is "", the order
// is for any board that receives it.
func stamp(thing string, r OrderRequest) (id string, payload []byte) {
	random := make([]byte, 6)
	rand.Read(random) // never fails
	id = "c-" + hex.EncodeToString(random)
	o := api.Order{ID: id, Thing: thing, Output: r.Output, Action: r.Action, Expires: time.Now().Add(r.Life).UTC()}
	if r.Action == string(output.ActionSet) {
		o.Level = &r.Level
	}
	if r.For > 0 {
		o.For = r.For.String()
	}
	payload, err := json.Marshal(o)
	if err != nil {
		panic(err) // strings and a time of this century can always be encoded
	}
	return id, payload
}

// SendOrder sends one order on a connection of its own. With wait 0 it returns when the broker
// has the order, otherwise when its answer has come. If the first attempt to connect fails, it
// gives up and returns the reason.
//
// It uses MQTT 5, so that the order also expires at the broker. If the broker does not support
// MQTT 5, it uses MQTT 3.1.1.
func SendOrder(ctx context.Context, cfg *config.Config, clientID string, r OrderRequest, wait time.Duration, log *slog.Logger) (api.OrderAnswer, string, error) {
	if cfg.CommandsTopic() == "" {
		return api.OrderAnswer{}, "", noOrdersTopic(cfg)
	}
	if a, id, err := sendOver5(ctx, cfg, clientID, r, wait); !errors.Is(err, mqtt5.ErrUnsupported) {
		return a, id, err
	}
	o, err := NewOrderer(cfg, clientID, log)
	if err != nil {
		return api.OrderAnswer{}, "", err
	}
	failed := make(chan error, 1)
	running := task.Start("link", failed, o.Run)
	a, id, err := o.sendOne(ctx, r, wait)
	if ended := running.Stop(15 * time.Second); err == nil {
		err = ended
	}
	return a, id, err
}

// sendOne sends one order once the link is connected. See SendOrder for wait.
func (o *Orderer) sendOne(ctx context.Context, r OrderRequest, wait time.Duration) (a api.OrderAnswer, id string, err error) {
	if err := o.Connected(ctx); err != nil {
		return a, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, max(wait, 30*time.Second))
	defer cancel()
	if wait == 0 {
		id, err = o.Post(ctx, r)
		return a, id, err
	}
	ctx, cancel = context.WithTimeout(ctx, wait)
	defer cancel()
	a, err = o.Send(ctx, r)
	return a, a.ID, err
}
