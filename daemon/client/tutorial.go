package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"fieldpost/daemon/health"
	"fieldpost/daemon/task"
	"fieldpost/daemon/topic"
	"fieldpost/daemon/uplink"
	"fieldpost/daemon/visible"
)

// Account is where a client connects and as whom.
type Account struct {
	Endpoint             string // host:port
	CA, Certificate, Key string // PEM files
	ClientID             string
}

// largestPrinted is the largest payload that `fieldpost sub` prints, in bytes.
const largestPrinted = 1 << 20

// link makes a link for the account. The session is persistent, as in the
// tutorial (clean_session=False).
func (a Account) link(subs []uplink.Subscription, box uplink.Outbox, up chan uplink.Status, log *slog.Logger) (*uplink.Link, error) {
	return uplink.New(uplink.Config{
		Endpoint: a.Endpoint, ClientID: a.ClientID, CA: a.CA, Certificate: a.Certificate, Key: a.Key,
		MaxPayload: largestPrinted, Subscriptions: subs, Outbox: box, Observe: told(up, log),
	})
}

// PublishOptions says what to publish.
type PublishOptions struct {
	Account
	Topic   string
	Message string
	Count   int           // how many; 0 until ctx ends
	Every   time.Duration // from one to the next
	Out     io.Writer
	Log     *slog.Logger
}

// Publish does what the tutorial's publisher does: it sends
// {"message": "... [1]"} and so on at QoS 1 and waits for each
// acknowledgement. When ctx ends it stops cleanly and returns nil.
func Publish(ctx context.Context, o PublishOptions) error {
	queue, up := uplink.NewQueue(), make(chan uplink.Status, 1)
	l, err := o.link(nil, queue, up, o.Log)
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	linking := task.Start("link", failed, l.Run)
	err = publishAll(ctx, o, queue, up)
	if ended := linking.Stop(10 * time.Second); err == nil {
		err = ended
	}
	return err
}

func publishAll(ctx context.Context, o PublishOptions, queue *uplink.Queue, up <-chan uplink.Status) error {
	if err := connected(ctx, up); err != nil {
		return interrupted(ctx, err)
	}
	tick := time.NewTicker(o.Every)
	defer tick.Stop()
	for n := 1; ; n++ {
		payload, err := json.Marshal(map[string]string{"message": fmt.Sprintf("%s [%d]", o.Message, n)})
		if err != nil {
			return fmt.Errorf("encode message: %w", err)
		}
		if err := acknowledged(ctx, queue.Publish(o.Topic, payload), up); err != nil {
			return interrupted(ctx, err)
		}
		fmt.Fprintf(o.Out, "published to %s: %s\n", o.Topic, payload)
		if n == o.Count {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// SubscribeOptions says what to subscribe to.
type SubscribeOptions struct {
	Account
	Topic string
	Count int // end after so many; 0 when ctx ends
	Out   io.Writer
	Log   *slog.Logger
}

// Subscribe does what the tutorial's subscriber does: it prints what arrives
// on the topic, which may be a filter, and ends after Count messages, or cleanly when ctx ends. A
// message is acknowledged once it has been printed. One that a terminal would act
// on is printed quoted.
func Subscribe(ctx context.Context, o SubscribeOptions) error {
	up := make(chan uplink.Status, 1)
	l, err := o.link([]uplink.Subscription{{Filter: o.Topic, QoS: 1}}, uplink.NewQueue(), up, o.Log)
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	linking := task.Start("link", failed, l.Run)
	err = printAll(ctx, o, l.Messages(), up)
	if ended := linking.Stop(10 * time.Second); err == nil {
		err = ended
	}
	return err
}

func printAll(ctx context.Context, o SubscribeOptions, in <-chan uplink.Message, up <-chan uplink.Status) error {
	n, stood, strays := 0, false, 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-up:
			switch {
			case len(s.Denied) > 0:
				return fmt.Errorf("subscribe to %q: the broker does not allow it", o.Topic)
			case s.Connected:
				stood = true
			case s.Err != nil && !stood:
				return s.Err // a person is waiting: the first connection must stand
			}
		case m := <-in:
			switch {
			case m.Truncated():
				o.Log.Warn("message is too large to print", "topic", fmt.Sprintf("%.256s", m.Topic), "bytes", m.Size, "most", largestPrinted)
				continue
			case !topic.Matches(o.Topic, m.Topic):
				o.stray(m, &strays)
				continue
			}
			if _, err := fmt.Fprintf(o.Out, "%s: %s\n", visible.Text(m.Topic), visible.Lines(string(m.Payload))); err != nil {
				return fmt.Errorf("print message: %w", err)
			}
			m.Ack()
			if n++; n == o.Count {
				return nil
			}
		}
	}
}

// stray passes over a message that the filter does not ask for: the client id's
// session still has a subscription that somebody made before.
func (o SubscribeOptions) stray(m uplink.Message, n *int) {
	if *n++; *n == 1 {
		o.Log.Warn("messages of other subscriptions in this client id's session are ignored", "topic", fmt.Sprintf("%.256s", m.Topic))
	}
	m.Ack()
}

// acknowledged waits for the broker's word on a message. That it lets nobody
// publish there would never come as an acknowledgement: the link says so.
func acknowledged(ctx context.Context, done <-chan error, up <-chan uplink.Status) error {
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

// interrupted makes nothing of an error that is only our own end.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
