package daemontest

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"fieldpost/daemon/uplink"
)

// Listen subscribes to test/topic with a client of its own and gives every
// message it receives, decoded; what is no JSON object is {"unreadable": text}.
// It returns when the broker has confirmed the subscription.
func (s *Site) Listen(id string) <-chan map[string]any {
	s.T.Helper()
	up := make(chan uplink.Status, 256)
	l, err := uplink.New(uplink.Config{
		Endpoint: s.Addr, ClientID: id, CA: s.Files.CA, Certificate: s.Files.Certificate, Key: s.Files.Key,
		Subscriptions: []uplink.Subscription{{Filter: "test/topic", QoS: 1}}, Outbox: uplink.NewQueue(),
		Observe: ConnectionChanges(up),
	})
	if err != nil {
		s.T.Fatal(err)
	}
	Background(s.T, l.Run)
	heard := make(chan map[string]any, 4096)
	Background(s.T, func(ctx context.Context) error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case m := <-l.Messages():
				var v map[string]any
				if err := json.Unmarshal(m.Payload, &v); err != nil {
					v = map[string]any{"unreadable": string(m.Payload)}
				}
				heard <- v
				m.Ack()
			}
		}
	})
	Await(s.T, "connection of "+id, up, func(st uplink.Status) bool { return st.Connected })
	return heard
}

// Publisher gives a function that publishes to test/topic with a client of its
// own, and returns when the broker has acknowledged the message.
func (s *Site) Publisher(id string) func(payload string) {
	s.T.Helper()
	q := uplink.NewQueue()
	l, err := uplink.New(uplink.Config{
		Endpoint: s.Addr, ClientID: id, CA: s.Files.CA, Certificate: s.Files.Certificate, Key: s.Files.Key, Outbox: q,
	})
	if err != nil {
		s.T.Fatal(err)
	}
	Background(s.T, l.Run)
	return func(payload string) {
		s.T.Helper()
		if err := Receive(s.T, "acknowledgement", q.Publish("test/topic", []byte(payload))); err != nil {
			s.T.Fatal(err)
		}
	}
}

// Order is an order for the site's pump that expires after this time.
func Order(id, action string, life time.Duration) string {
	return fmt.Sprintf(`{"thing":"thing-greenhouse","id":%q,"output":"pump","action":%q,"expires":%q}`,
		id, action, time.Now().Add(life).UTC().Format(time.RFC3339))
}
