package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"fieldpost/daemon/config"
	"fieldpost/daemon/health"
	"fieldpost/daemon/task"
	"fieldpost/daemon/topic"
	"fieldpost/daemon/uplink"
	"fieldpost/daemon/visible"
)

// Account says where a client connects and with which identity.
type Account struct {
	Endpoint             string // host:port
	CA, Certificate, Key string // PEM files; no client certificate if Certificate and Key are ""
	ClientID             string
	uplink.Access
}

// AccessOf returns what else the broker of a configuration, or the network in front of it,
// requires: user name and password, proxy, ALPN.
func AccessOf(cfg *config.Config) uplink.Access {
	b := cfg.Broker
	return uplink.Access{Username: b.Username, PasswordFile: b.PasswordFile, Proxy: b.Proxy, ALPN: b.ALPN}
}

// largestPrinted is the largest payload that `fieldpost sub` prints, in bytes.
const largestPrinted = 1 << 20

// link makes a link for the account. The session is persistent, as in the
// tutorial (clean_session=False). up receives the latest status.
func (a Account) link(subs []uplink.Subscription, box uplink.Outbox, up chan uplink.Status, log *slog.Logger) (*uplink.Link, error) {
	return uplink.New(uplink.Config{
		Endpoint: a.Endpoint, ClientID: a.ClientID, CA: a.CA, Certificate: a.Certificate, Key: a.Key, Access: a.Access,
		MaxPayload: largestPrinted, Subscriptions: subs, Outbox: box, Observe: keepLatestAndLog(up, log),
	})
}

// probeConfig returns the settings of a single connection with a clean session.
func (a Account) probeConfig() uplink.ProbeConfig {
	return uplink.ProbeConfig{Endpoint: a.Endpoint, ClientID: a.ClientID, CA: a.CA, Certificate: a.Certificate, Key: a.Key, Access: a.Access, Clean: true}
}

// PublishOptions says what to publish.
type PublishOptions struct {
	Account
	Topic   string
	Message string
	// Payload returns the n-th payload, counted from 1, and [io.EOF] at the end. nil makes
	// payloads of Message.
	Payload func(ctx context.Context, n int) ([]byte, error)
	Count   int           // number of messages; 0 is until ctx ends or Payload returns io.EOF
	Every   time.Duration // interval between messages; 0 is none
	QoS     byte          // 0 or 1
	Retain  bool
	Out     io.Writer
	Log     *slog.Logger
}

// Publish does what the tutorial's publisher does: it sends {"message": "... [1]"} and so on.
// At QoS 1 it waits for each acknowledgement. When ctx ends, it stops cleanly and returns nil.
// If the broker does not allow something, the error is a [*Refused].
func Publish(ctx context.Context, o PublishOptions) error {
	if o.Payload == nil {
		o.Payload = o.tutorialPayload
	}
	q := uplink.Question{Phase: uplink.Publishing, Pub: uplink.Publication{Topic: o.Topic, Retain: o.Retain}}
	next := o.Payload
	o.Payload = func(ctx context.Context, n int) ([]byte, error) {
		payload, err := next(ctx, n)
		q.Pub.Payload = payload
		return payload, err
	}
	if o.QoS == 0 {
		err := o.publishUnacknowledged(ctx)
		return o.refusal(ctx, err, q)
	}
	queue, up := uplink.NewQueue(), make(chan uplink.Status, 1)
	l, err := o.link(nil, queue, up, o.Log)
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	linking := task.Start("link", failed, l.Run)
	if err = connected(ctx, up); err != nil {
		q.Phase = uplink.Connecting
	} else {
		err = o.publishEach(ctx, func(payload []byte) error {
			return awaitAck(ctx, queue.Put(uplink.Publication{Topic: o.Topic, Payload: payload, Retain: o.Retain}), up)
		})
	}
	err = ignoreIfDone(ctx, err)
	if ended := linking.Stop(10 * time.Second); err == nil {
		err = ended
	}
	return o.refusal(ctx, err, q)
}

// tutorialPayload makes the n-th message of the tutorial's publisher.
func (o PublishOptions) tutorialPayload(_ context.Context, n int) ([]byte, error) {
	payload, err := json.Marshal(map[string]string{"message": fmt.Sprintf("%s [%d]", o.Message, n)})
	if err != nil {
		return nil, fmt.Errorf("encode message: %w", err)
	}
	return payload, nil
}

// publishEach calls publish for each payload, at the interval Every.
func (o PublishOptions) publishEach(ctx context.Context, publish func(payload []byte) error) error {
	var tick <-chan time.Time
	if o.Every > 0 {
		ticker := time.NewTicker(o.Every)
		defer ticker.Stop()
		tick = ticker.C
	}
	for n := 1; ; n++ {
		payload, err := o.Payload(ctx, n)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if err := publish(payload); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(o.Out, "published to %s: %s\n", visible.Text(o.Topic), visible.Lines(string(payload))); err != nil {
			return fmt.Errorf("print message: %w", err)
		}
		if n == o.Count {
			return nil
		}
		if tick == nil {
			continue
		}
		select {
		case <-tick:
		case <-ctx.Done():
			return nil
		}
	}
}

// publishUnacknowledged publishes at QoS 0, on one connection. A ping after each message shows
// whether the broker has kept the connection open.
func (o PublishOptions) publishUnacknowledged(ctx context.Context) error {
	p, err := uplink.NewProbe(o.probeConfig())
	if err != nil {
		return err
	}
	defer p.Close()
	limited := func(do func(ctx context.Context) error) error {
		ctx, cancel := context.WithTimeout(ctx, openLimit)
		defer cancel()
		return do(ctx)
	}
	for _, step := range []func(context.Context) error{
		p.Dial,
		func(ctx context.Context) error { _, err := p.Handshake(ctx); return err },
		func(ctx context.Context) error { _, err := p.Connect(ctx); return err },
	} {
		if err := limited(step); err != nil {
			return ignoreIfDone(ctx, err)
		}
	}
	return ignoreIfDone(ctx, o.publishEach(ctx, func(payload []byte) error {
		err := limited(func(ctx context.Context) error { return p.Send(ctx, o.Topic, payload, o.Retain) })
		if err == nil {
			err = limited(p.Ping)
		}
		return err
	}))
}

// Format is how messages are printed.
type Format int

// The formats.
const (
	Plain  Format = iota // the topic and the payload on one line; quoted if it has control characters
	Pretty               // the topic, and JSON indented below it
	Raw                  // the payload's bytes and a line feed
)

// SubscribeOptions says what to subscribe to.
type SubscribeOptions struct {
	Account
	Topic  string        // a topic or a filter
	QoS    byte          // 0 or 1
	Count  int           // number of messages to print; 0 is until ctx or Wait ends
	Wait   time.Duration // at most; 0 is without limit
	Format Format
	Out    io.Writer
	Log    *slog.Logger
}

// errTooFew is the error when Wait is over before Count messages have arrived.
var errTooFew = errors.New("too few messages came")

// Subscribe does what the tutorial's subscriber does: it prints the messages that arrive on a
// topic or filter, and acknowledges each once it is printed. It ends after Count messages, or
// cleanly when ctx ends. With Wait it also ends after that time, with an error if fewer than
// Count messages have arrived, or none if Count is 0. If the broker does not allow something,
// the error is a [*Refused].
func Subscribe(ctx context.Context, o SubscribeOptions) error {
	up := make(chan uplink.Status, 1)
	l, err := o.link([]uplink.Subscription{{Filter: o.Topic, QoS: o.QoS}}, uplink.NewQueue(), up, o.Log)
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	linking := task.Start("link", failed, l.Run)
	err = o.printAll(ctx, l.Messages(), up)
	if ended := linking.Stop(10 * time.Second); err == nil {
		err = ended
	}
	return o.refusal(ctx, err, uplink.Question{Phase: uplink.Subscribing, Sub: uplink.Subscription{Filter: o.Topic, QoS: o.QoS}})
}

// printAll prints the messages from in until Subscribe is to end.
func (o SubscribeOptions) printAll(ctx context.Context, in <-chan uplink.Message, up <-chan uplink.Status) error {
	var over <-chan time.Time
	if o.Wait > 0 {
		timer := time.NewTimer(o.Wait)
		defer timer.Stop()
		over = timer.C
	}
	n, wasUp, unmatched := 0, false, 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-over:
			if n == 0 || n < o.Count {
				return fmt.Errorf("subscribe to %q: %w: %d of %d in %v", o.Topic, errTooFew, n, max(o.Count, 1), o.Wait)
			}
			return nil
		case s := <-up:
			switch {
			case len(s.Denied) > 0:
				return uplink.SubscribeDenied(o.Topic)
			case s.Connected:
				wasUp = true
			case s.Err != nil && !wasUp:
				return s.Err // a person is waiting, so a first failure is not retried
			}
		case m := <-in:
			switch {
			case m.Truncated():
				o.Log.Warn("message is too large to print", "topic", fmt.Sprintf("%.256s", m.Topic), "bytes", m.Size, "most", largestPrinted)
				continue
			case !topic.Matches(o.Topic, m.Topic):
				o.ackUnmatched(m, &unmatched)
				continue
			}
			if _, err := o.Out.Write(o.Format.text(m)); err != nil {
				return fmt.Errorf("print message: %w", err)
			}
			m.Ack()
			if n++; n == o.Count {
				return nil
			}
		}
	}
}

// text formats a message for printing.
func (f Format) text(m uplink.Message) []byte {
	head := visible.Text(m.Topic)
	if m.Retained {
		head += " (retained)"
	}
	var indented bytes.Buffer
	switch {
	case f == Raw:
		return append(bytes.Clone(m.Payload), '\n')
	case f == Pretty && json.Indent(&indented, m.Payload, "  ", "  ") == nil:
		return fmt.Appendf(nil, "%s:\n  %s\n", head, visible.Lines(indented.String()))
	}
	return fmt.Appendf(nil, "%s: %s\n", head, visible.Lines(string(m.Payload)))
}

// ackUnmatched acknowledges and ignores a message that does not match the filter. The
// session of this client id still has a subscription from earlier. The first such message
// is logged; n counts them.
func (o SubscribeOptions) ackUnmatched(m uplink.Message, n *int) {
	if *n++; *n == 1 {
		o.Log.Warn("messages of other subscriptions in this client id's session are ignored", "topic", fmt.Sprintf("%.256s", m.Topic))
	}
	m.Ack()
}

// awaitAck waits until a message is acknowledged. A broker that does not allow the publish
// never acknowledges it; then the link's status has the error.
func awaitAck(ctx context.Context, done <-chan error, up <-chan uplink.Status) error {
	for {
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case s := <-up:
			var why *uplink.Explained
			if errors.As(s.Err, &why) && why.Code == string(health.PublishDenied) {
				return s.Err
			}
		}
	}
}

// ignoreIfDone returns err, or nil if ctx has ended, because then the error comes from that.
func ignoreIfDone(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
