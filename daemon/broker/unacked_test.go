package broker

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"fieldpost/daemon/awsiot"
)

// A client that acknowledges nothing is sent 100 messages and no more. Each acknowledgement
// brings the next one, in order, and the rest goes to the session's next connection.
func TestUnacknowledged(t *testing.T) {
	clock := &clockwork{start: time.Now()}
	b := openAt(t, Options{Rates: true, nap: func(ctx context.Context, d time.Duration) error { clock.pass(d); return ctx.Err() }}, clock)
	s := join(t, b, "thing-sub", false)
	s.subscribe(1, "a")
	from := join(t, b, "thing-pub", true)
	n := 0
	publish := func(count int) {
		t.Helper()
		clock.pass(time.Second)
		for range count {
			from.publish(uint16(n+1), "a", strconv.Itoa(n))
			n++
		}
	}
	var ids []uint16
	take := func() {
		t.Helper()
		pk := s.want(packets.Publish)
		if want := strconv.Itoa(len(ids)); string(pk.Payload) != want {
			t.Fatalf("got message %s, want %s", pk.Payload, want)
		}
		ids = append(ids, pk.PacketID)
	}
	publish(60)
	for range 60 {
		take() // before the clock goes on: the rate counts what is sent in a second
	}
	publish(45)
	for range awsiot.ReceiveMax - 60 {
		take()
	}
	s.wantNothing()
	ack := func(i int) {
		s.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: ids[i]})
	}
	clock.pass(time.Second)
	ack(7)
	take()
	s.wantNothing()
	ack(0)
	ack(0) // again: it counts once
	take()
	s.wantNothing()
	publish(1) // waits behind those that were there before
	s.wantNothing()
	for i := 1; i < 5; i++ {
		ack(i)
		take()
	}
	s.wantNothing()
	if len(ids) != n {
		t.Fatalf("%d of %d messages", len(ids), n)
	}

	publish(3)
	s.wantNothing()
	s.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
	s.wantClosed()
	awaitGone(t, b, "thing-sub")
	clock.pass(time.Second)
	s = resume(t, b, "thing-sub", true)
	seen := map[string]bool{}
	for range 100 + 3 {
		pk := s.want(packets.Publish)
		seen[string(pk.Payload)] = true
		s.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: pk.PacketID})
	}
	if s.wantNothing(); len(seen) != 103 {
		t.Errorf("%d messages came to the next connection", len(seen))
	}
}
