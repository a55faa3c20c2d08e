package broker

import (
	"context"
	"strconv"
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

// awaitDeliveries waits until n messages of this second were sent to a client or discarded.
func awaitDeliveries(t *testing.T, b *Broker, id string, n int) {
	t.Helper()
	cl, ok := b.server.Clients.Get(id)
	if !ok {
		t.Fatalf("no client %q", id)
	}
	r := cl.Net.Conn.(*identified).rates
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for late := time.Now().Add(patience); ; <-again.C {
		r.mu.Lock()
		count := r.delivered.count
		r.mu.Unlock()
		if count == n {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("%d messages, want %d", count, n)
		}
	}
}

// The same rate holds for what is delivered to one connection.
func TestDeliveryRate(t *testing.T) {
	clock := &clockwork{start: time.Now()}
	b := openAt(t, Options{Rates: true}, clock)
	s := join(t, b, "thing-sub", true)
	s.subscribe(1, "a")
	one, two := join(t, b, "thing-1", true), join(t, b, "thing-2", true)
	for _, c := range []*client{one, two} {
		for i := range 60 {
			c.publish(uint16(i+1), "a", "x")
		}
	}
	for range awsiot.PublishRate {
		s.receive("a", "x")
	}
	awaitDeliveries(t, b, "thing-sub", 120)
	s.wantNothing()
	clock.pass(time.Second)
	one.publish(99, "a", "next")
	s.receive("a", "next")
}

// A client id may connect once a second. What comes sooner is not answered over MQTT 3.1.1;
// over MQTT 5 it is told that a quota is exceeded. Other client ids are not concerned.
func TestConnectRate(t *testing.T) {
	clock := &clockwork{start: time.Now()}
	b := openAt(t, Options{Rates: true}, clock)
	join(t, b, "thing-1", true)
	join(t, b, "thing-2", true)
	c := dial(t, b)
	c.send(hello("thing-1", true))
	c.wantClosed()
	if _, ack := join5(t, b, hello("thing-1", true)); ack.ReasonCode != 151 {
		t.Errorf("CONNACK with %d, want 151", ack.ReasonCode)
	}
	clock.pass(time.Second)
	join(t, b, "thing-1", true)
}

// What is remembered of client ids stays bounded.
func TestConnectsAreForgotten(t *testing.T) {
	var c connects
	now := time.Unix(1e9, 0)
	for i := range 10 * connectsKept {
		if !c.admits(strconv.Itoa(i), now) {
			t.Fatal("refused")
		}
		now = now.Add(time.Millisecond)
	}
	if n := len(c.last); n > connectsKept {
		t.Errorf("%d are remembered", n)
	}
}

// Bytes above the throughput are delayed, each way, and not lost.
func TestThroughput(t *testing.T) {
	var slept atomic.Int64
	b := openAt(t, Options{Rates: true, nap: func(_ context.Context, d time.Duration) error {
		slept.Add(int64(d))
		return nil
	}}, &clockwork{start: time.Now()})
	c := join(t, b, "thing-1", true)
	payload := string(make([]byte, 100<<10))
	for i := range 5 {
		c.publish(uint16(i+1), "a", payload)
	}
	if d := slept.Load(); d != 0 {
		t.Fatalf("500 KiB were delayed by %v", time.Duration(d))
	}
	c.publish(6, "a", payload)
	if d := time.Duration(slept.Load()); d < 100*time.Millisecond || d > time.Second {
		t.Errorf("600 KiB in a second were delayed by %v, want some 170 ms", d)
	}
	s := join(t, b, "thing-2", true)
	s.subscribe(1, "a")
	slept.Store(0)
	other := join(t, b, "thing-3", true)
	for i := range 6 {
		other.publish(uint16(i+1), "a", payload)
		s.receive("a", payload)
	}
	if d := time.Duration(slept.Load()); d < 200*time.Millisecond {
		t.Errorf("600 KiB each way were delayed by %v, want some 340 ms", d)
	}
}

func TestBucket(t *testing.T) {
	var b bucket
	now := time.Unix(1e9, 0)
	for i, step := range []struct {
		after time.Duration
		bytes int
		want  time.Duration
	}{
		{0, awsiot.Throughput, 0},
		{0, awsiot.Throughput / 2, 500 * time.Millisecond},
		{time.Second, awsiot.Throughput / 2, 0},
		{time.Hour, awsiot.Throughput, 0},
		{0, awsiot.Throughput, time.Second},
		{-time.Hour, 0, time.Second}, // a clock that was set back
		{2 * time.Second, 1, 0},
	} {
		now = now.Add(step.after)
		if got := b.take(step.bytes, now); got.Round(time.Millisecond) != step.want {
			t.Errorf("step %d: delayed by %v, want %v", i, got, step.want)
		}
	}
}
