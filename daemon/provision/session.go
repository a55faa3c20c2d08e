package provision

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"fieldpost/daemon/health"
	"fieldpost/daemon/task"
	"fieldpost/daemon/uplink"
)

// Account says where a session connects, as whom, and for which template.
type Account struct {
	Endpoint, ClientID   string
	CA, Certificate, Key string // PEM files
	Template             string
	Proxy, ALPN          string // as in [uplink.Access]
}

// Session is a short connection for provisioning.
type Session interface {
	// Call sends a request to a topic and returns the answer from its /accepted. The error
	// wraps a [*Rejection], a [*DeniedError], an [*uplink.Explained] or ctx's error.
	Call(ctx context.Context, topic string, request any) (answer []byte, err error)
	// Close ends the connection.
	Close() error
}

// DeniedError is the reason if the broker does not allow a topic.
type DeniedError struct {
	Topic string
	Err   error // what the link says about it
}

// Error returns the reason.
func (d *DeniedError) Error() string { return fmt.Sprintf("the broker does not allow %q", d.Topic) }

// Unwrap returns what the link says.
func (d *DeniedError) Unwrap() error { return d.Err }

// Times that a session may take.
const (
	openTimeout  = 45 * time.Second // three hang-ups make a denial
	callTimeout  = 45 * time.Second // a pre-provisioning hook has 5 s
	closeTimeout = 5 * time.Second
	maxAnswer    = 64 << 10 // bytes
)

// session is a link with the subscriptions for the answers.
type session struct {
	link    *uplink.Link
	queue   *uplink.Queue
	up      chan uplink.Status // the newest status; room for one
	linking *task.Task
	failed  chan error
}

// Open connects and subscribes to the answers. It gives up when the broker refuses the
// certificate, or when three connections in a row have ended at a subscription. Errors are
// those of [Session.Call].
func Open(ctx context.Context, a Account) (Session, error) {
	s := &session{queue: uplink.NewQueue(), up: make(chan uplink.Status, 1), failed: make(chan error, 1)}
	var filters []uplink.Subscription
	for _, t := range RequestTopics(a.Template) {
		filters = append(filters, uplink.Subscription{Filter: t + "/accepted", QoS: 1}, uplink.Subscription{Filter: t + "/rejected", QoS: 1})
	}
	var err error
	s.link, err = uplink.New(uplink.Config{
		Endpoint: a.Endpoint, ClientID: a.ClientID, CA: a.CA, Certificate: a.Certificate, Key: a.Key, Clean: true,
		Access:        uplink.Access{Proxy: a.Proxy, ALPN: a.ALPN},
		Subscriptions: filters, Outbox: s.queue, MaxPayload: maxAnswer, Observe: s.observe,
		Flow: uplink.Flow{Drain: time.Second},
	})
	if err != nil {
		return nil, err
	}
	s.linking = task.Start("provisioning link", s.failed, s.link.Run)
	if err := s.connected(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// observe keeps the newest status.
func (s *session) observe(st uplink.Status) {
	select {
	case <-s.up:
	default:
	}
	s.up <- st
}

// connected waits until the session stands.
func (s *session) connected(ctx context.Context) error {
	limit := time.NewTimer(openTimeout)
	defer limit.Stop()
	var last error
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-limit.C:
			if last == nil {
				last = fmt.Errorf("no connection within %v", openTimeout)
			}
			return last
		case st := <-s.up:
			switch {
			case len(st.Denied) > 0:
				return &DeniedError{st.Denied[0], st.Err}
			case st.Connected:
				return nil
			case st.Err != nil:
				if last = st.Err; hopeless(st.Err) {
					return last
				}
			}
		}
	}
}

// hopeless reports whether another attempt would end as the last one did.
func hopeless(err error) bool {
	var why *uplink.Explained
	if !errors.As(err, &why) {
		return false
	}
	switch health.Code(why.Code) {
	case health.ConnectRefused, health.CertificateRejected, health.CertificateUnusable, health.ServerUntrusted, health.ClockWrong, health.TLSTooOld:
		return true
	}
	return false
}

// Call implements [Session].
func (s *session) Call(ctx context.Context, topic string, request any) ([]byte, error) {
	payload, err := json.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	limit := time.NewTimer(callTimeout)
	defer limit.Stop()
	published := s.queue.Publish(topic, payload)
	acknowledged := false
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-limit.C:
			if !acknowledged {
				return nil, fmt.Errorf("no acknowledgement within %v", callTimeout)
			}
			return nil, fmt.Errorf("no answer within %v", callTimeout)
		case err := <-published:
			if err != nil {
				return nil, err
			}
			acknowledged, published = true, nil
		case st := <-s.up:
			var why *uplink.Explained
			if errors.As(st.Err, &why) && why.Code == string(health.PublishDenied) {
				return nil, &DeniedError{topic, st.Err}
			}
			if st.Err != nil && !st.Connected && hopeless(st.Err) {
				return nil, st.Err
			}
		case m := <-s.link.Messages():
			m.Ack()
			switch {
			case m.Truncated():
			case m.Topic == topic+"/accepted":
				return m.Payload, nil
			case m.Topic == topic+"/rejected":
				r := &Rejection{}
				if err := json.Unmarshal(m.Payload, r); err != nil {
					r.Message = string(m.Payload)
				}
				return nil, r
			}
		}
	}
}

// Close implements [Session].
func (s *session) Close() error { return s.linking.Stop(closeTimeout) }
