package broker

import (
	"context"
	"sync"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// takeovers knows the connection that each client id has.
type takeovers struct {
	mu      sync.Mutex
	current map[string]*attached
}

// attached is a connection whose CONNECT was allowed.
type attached struct {
	client *mqtt.Client
	end    context.CancelFunc // ends what a rate delays on it
	ended  <-chan struct{}    // closed when the server has forgotten the connection
}

// attach makes a connection the one of its client id, if the id has none. Otherwise it returns
// the one that the id has.
func (t *takeovers) attach(id string, by *attached) *attached {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.current[id]; old != nil {
		return old
	}
	if t.current == nil {
		t.current = map[string]*attached{}
	}
	t.current[id] = by
	return nil
}

// detach removes an ended connection, if it is the one of its client id.
func (t *takeovers) detach(cl *mqtt.Client) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if at := t.current[cl.ID]; at != nil && at.client == cl {
		delete(t.current, cl.ID)
	}
}

// takeOver ends the connection that the client id of cl has, and waits until the server has
// forgotten it. Without the wait a connection that ends while the next one begins takes the
// next one's subscriptions and its place among the clients with it.
func (r *rules) takeOver(cl *mqtt.Client) {
	conn, ok := cl.Net.Conn.(*identified)
	if !ok {
		return
	}
	conn.client = cl
	by := &attached{client: cl, end: conn.end, ended: conn.ended}
	for {
		old := r.takeovers.attach(cl.ID, by)
		if old == nil {
			return
		}
		old.end()
		_ = r.server.DisconnectClient(old.client, packets.ErrSessionTakenOver)
		<-old.ended
	}
}
