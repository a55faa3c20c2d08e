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
	"fieldpost/daemon/task"
	"fieldpost/daemon/uplink"
	"fieldpost/daemon/uplink/mqtt5"
)

// OrderRequest is an order to be sent.
type OrderRequest struct {
	Output string
	Action string        // on, off, toggle, pulse
	For    time.Duration // how long; 0 without an end
	Life   time.Duration // how long the order is valid from now
}

// Orderer sends orders over MQTT and awaits their answers, on a link of its
// own with a clean session.
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
		Outbox:        o.queue, Observe: told(o.up, log),
	})
	return o, err
}

func noOrdersTopic(cfg *config.Config) error {
	return errors.New("send order: commands.topic is not set in " + cfg.File)
}

// latest gives an observer that keeps the newest status in ch, which has room
// for one.
func latest(ch chan uplink.Status) func(uplink.Status) {
	return func(s uplink.Status) {
		select {
		case <-ch:
		default:
		}
		ch <- s
	}
}

// told gives an observer like latest that also logs each loss of a link that
// stood. The first failure is not logged: it is returned to the person who
// waits, in words.
func told(ch chan uplink.Status, log *slog.Logger) func(uplink.Status) {
	keep, stood := latest(ch), false
	return func(s uplink.Status) {
		if stood && !s.Connected && s.Err != nil {
			log.Warn("not connected", "err", s.Err)
		}
		stood = stood || s.Connected
		keep(s)
	}
}

// Run keeps the link until ctx ends.
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

// Connected waits until the link stands; an error says why it does not.
func (o *Orderer) Connected(ctx context.Context) error { return connected(ctx, o.up) }

// connected waits for the first verdict on a link: nil when it stands, and
// the reason at the first failure, because a person is waiting.
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

// Send sends one order, stamped with a new id and its expiry, and waits for
// its answer until ctx ends. The error of a wait in vain names the id.
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

// Post sends one order and waits only until the broker has it.
func (o *Orderer) Post(ctx context.Context, r OrderRequest) (id string, err error) {
	id, payload := stamp(o.cfg.Thing, r)
	return id, await(ctx, o.queue.Publish(o.cfg.CommandsTopic(), payload))
}

func await(ctx context.Context, done <-chan error) error {
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("no acknowledgement from the broker: %w", ctx.Err())
	}
}

// stamp gives an order its id and expiry and encodes it. A thing of "" is
// whoever gets it.
func stamp(thing string, r OrderRequest) (id string, payload []byte) {
	random := make([]byte, 6)
	rand.Read(random) // never fails
	id = "c-" + hex.EncodeToString(random)
	o := api.Order{ID: id, Thing: thing, Output: r.Output, Action: r.Action, Expires: time.Now().Add(r.Life).UTC()}
	if r.For > 0 {
		o.For = r.For.String()
	}
	payload, err := json.Marshal(o)
	if err != nil {
		panic(err) // texts and a time of this century always encode
	}
	return id, payload
}

// SendOrder sends one order on a connection of its own. With wait 0 it returns when the broker
// has the order, otherwise when its answer has come. It gives up when the first connection does
// not stand, with the reason.
//
// The connection is over MQTT 5, where the order expires at the broker as well; where the broker
// does not speak it, over MQTT 3.1.1.
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
