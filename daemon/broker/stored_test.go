package broker

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"fieldpost/daemon/awsiot"
)

// paced is a wait that a test ends.
type paced struct {
	mu      sync.Mutex
	waits   []time.Duration
	release chan struct{}
}

func (p *paced) nap(ctx context.Context, d time.Duration) error {
	p.mu.Lock()
	p.waits = append(p.waits, d)
	p.mu.Unlock()
	select {
	case <-p.release:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// What a session kept comes at 10 messages a second. New messages do not wait for it, and what
// a connection did not get the next one gets; nothing is lost or comes twice if it was
// acknowledged.
func TestStoredRate(t *testing.T) {
	p, clock := &paced{release: make(chan struct{})}, &clockwork{start: time.Now()}
	b := openAt(t, Options{Rates: true, nap: p.nap}, clock)
	s := join(t, b, "thing-sub", false)
	s.subscribe(1, "a")
	s.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
	s.wantClosed()
	awaitGone(t, b, "thing-sub")
	from := join(t, b, "thing-pub", true)
	for i := range 5 {
		from.publish(uint16(i+1), "a", strconv.Itoa(i))
	}
	clock.pass(time.Second)
	s = resume(t, b, "thing-sub", true)
	seen := map[string]int{}
	take := func() {
		t.Helper()
		pk := s.want(packets.Publish)
		seen[string(pk.Payload)]++
		s.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: pk.PacketID})
	}
	take()
	s.wantNothing()
	from.publish(9, "a", "new")
	s.receive("a", "new")
	p.release <- struct{}{}
	take()
	s.wantNothing() // its acknowledgement was handled
	clock.pass(time.Second)
	s = resume(t, b, "thing-sub", true) // takes it over
	take()
	for range 2 {
		p.release <- struct{}{}
		take()
	}
	s.wantNothing()
	if len(seen) != 5 {
		t.Errorf("seen: %v", seen)
	}
	for payload, n := range seen {
		if n != 1 {
			t.Errorf("%s came %d times", payload, n)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range p.waits {
		if d != time.Second/awsiot.StoredRate {
			t.Errorf("waits %v", p.waits)
		}
	}
}

// A clean session, or one that has expired, has nothing.
func TestStoredIsForgotten(t *testing.T) {
	p, clock := &paced{release: make(chan struct{})}, &clockwork{}
	b := openAt(t, Options{Rates: true, nap: p.nap}, clock)
	from := join(t, b, "thing-pub", true)
	for n, c := range []struct {
		away  time.Duration
		clean bool
	}{{time.Minute, true}, {2 * awsiot.SessionExpiry, false}} {
		id := "thing-" + strconv.Itoa(n)
		s := join(t, b, id, false)
		s.subscribe(1, id)
		s.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
		s.wantClosed()
		awaitGone(t, b, id)
		for i := range 3 {
			from.publish(uint16(i+1), id, "x")
		}
		clock.pass(2 * time.Second)
		s = resume(t, b, id, true) // gets one, and goes
		s.receive(id, "x")
		s.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
		s.wantClosed()
		awaitGone(t, b, id)
		clock.pass(c.away)
		s = join(t, b, id, c.clean)
		s.subscribe(1, id)
		s.wantNothing()
		clock.pass(2 * time.Second)
	}
	b.rules.stored.mu.Lock()
	defer b.rules.stored.mu.Unlock()
	if n := len(b.rules.stored.messages); n != 0 {
		t.Errorf("messages of %d sessions are kept", n)
	}
}
