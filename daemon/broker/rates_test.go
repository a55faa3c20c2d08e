package broker

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"fieldpost/daemon/awsiot"
)

// What a connection publishes above the rate is neither acknowledged nor delivered, and
// the connection stands; in the next second it may publish again.
func TestPublishRate(t *testing.T) {
	var now atomic.Int64
	clock := func() time.Time { return time.Unix(0, now.Load()) }
	b, err := New(Options{Dir: t.TempDir(), Rates: true, now: clock})
	if err != nil {
		t.Fatal(err)
	}
	start(t, b)

	c, other := join(t, b, "thing-1", true), join(t, b, "thing-2", true)
	send := func(from, n int) {
		for i := range n {
			c.send(publication(uint16(from+i), "a", "x"))
		}
	}
	acknowledged := func(from, n int) {
		t.Helper()
		for i := range n {
			if ack := c.want(packets.Puback); ack.PacketID != uint16(from+i) {
				t.Fatalf("PUBACK %d, want %d", ack.PacketID, from+i)
			}
		}
		c.wantNothing()
	}
	send(1, awsiot.PublishRate+20)
	acknowledged(1, awsiot.PublishRate)
	other.publish(1, "a", "x") // another connection has a rate of its own
	now.Add(int64(time.Second) - 1)
	send(500, 1)
	c.wantNothing()
	now.Add(1)
	send(1000, 3)
	acknowledged(1000, 3)
}

// Without the option nothing is discarded: tests publish as fast as they can.
func TestNoPublishRate(t *testing.T) {
	c := join(t, open(t, nil), "thing-1", true)
	for i := range 3 * awsiot.PublishRate {
		c.publish(uint16(i+1), "a", "x")
	}
}

// No policy lets a message on a reserved topic be retained.
func TestReservedIsNotRetained(t *testing.T) {
	c := join(t, open(t, policy(t, `{"Effect":"Allow","Action":"*","Resource":"*"}`)), "thing-1", true)
	c.publish(1, "$aws/things/thing-1/shadow/update", "{}")
	c.send(retained(publication(2, "$aws/things/thing-1/shadow/update", "{}")))
	c.wantClosed()
}
