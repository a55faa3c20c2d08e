//go:build chaos && linux

package chaos

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net"
	"os/exec"
	"time"

	"fieldpost/daemon/daemontest"
)

// orderGiver gives orders to one output, one after the other, and awaits each answer.
// It sends an order again only when the broker may have forgotten it: to what
// the broker took and kept, the daemon owes an answer, however it is killed.
type orderGiver struct {
	c      *testbed
	b      *books
	output string
	random *rand.Rand
	past   []*sentOrder // answered; one of them is sent again now and then
	off    bool         // the next order is to switch off
}

// asks are what is asked for, and how long that may be done.
var asks = []struct {
	action string
	life   time.Duration
}{
	{"on 200ms", time.Minute},
	{"on 1s", 10 * time.Second},
	{"on 50ms", 2 * time.Second},
	{"on", 30 * time.Second},
	{"pulse 100ms", 5 * time.Second},
	{"pulse", time.Second},
	{"off", time.Minute},
	{"on 1s", -time.Second},
	{"pulse", -time.Hour},
}

// work gives orders until ctx ends.
func (h *orderGiver) work(ctx context.Context) {
	for h.wait(ctx, func() bool { return h.b.subscribed != 0 }) {
		e := h.next()
		h.b.begin(e)
		copies := 1 + max(0, h.random.IntN(8)-5)
		if !h.send(ctx, e, copies) || !h.answered(ctx, e, 1) || !h.effect(ctx, e) {
			return
		}
		if h.past = append(h.past, e); len(h.past) > 20 {
			h.past = h.past[1:]
		}
		if h.random.IntN(3) == 0 && !h.repeat(ctx, h.past[h.random.IntN(len(h.past))]) {
			return
		}
		h.b.wait(time.Duration(100+h.random.IntN(800))*time.Millisecond, func() bool {
			return h.b.proving || h.b.eager || ctx.Err() != nil
		})
	}
}

// next is the next order.
func (h *orderGiver) next() *sentOrder {
	h.b.mu.Lock()
	defer h.b.mu.Unlock()
	ask := asks[h.random.IntN(len(asks))]
	switch {
	case h.off:
		ask.action, ask.life = "off", time.Minute
	case h.b.proving || h.b.eager:
		ask = asks[0]
	}
	h.off = ask.action == "on"
	return &sentOrder{output: h.output, action: ask.action, expires: time.Now().Add(ask.life)}
}

// wait waits until ok says so; it is false when ctx has ended.
func (h *orderGiver) wait(ctx context.Context, ok func() bool) bool {
	for !h.b.wait(daemontest.Patience, func() bool { return ctx.Err() != nil || ok() }) {
	}
	return ctx.Err() == nil
}

// send gives an order to the broker and waits until that has it.
func (h *orderGiver) send(ctx context.Context, e *sentOrder, copies int) bool {
	h.b.mu.Lock()
	h.b.compose(e)
	h.b.mu.Unlock()
	for range copies {
		select {
		case err := <-h.c.queue.Publish(e.topic, e.payload):
			if err != nil {
				h.c.t.Errorf("send order %s: %v", e.id, err)
			}
		case <-ctx.Done():
			return false
		}
	}
	h.b.mu.Lock()
	defer h.b.mu.Unlock()
	e.posted = h.b.now()
	return true
}

// answered waits until so many answers have come.
func (h *orderGiver) answered(ctx context.Context, e *sentOrder, n int) bool {
	// The broker may have forgotten the order before the daemon had it, and keeps
	// orders for the daemon now.
	lost := func() bool {
		return h.b.subscribed > e.posted || e.givenUp && h.b.linked || e.counted && h.b.linked && !h.b.flood
	}
	for h.wait(ctx, func() bool { return e.answers >= n || lost() }) {
		h.b.mu.Lock()
		done := e.answers >= n
		switch {
		case done:
		case h.b.subscribed > e.posted:
			h.b.tolerate("orders sent again, as the broker may have forgotten them", 0)
		case e.counted:
			h.b.tolerate("orders sent again, as they may only have been counted in a flood", 0)
		default:
			h.b.tolerate("orders sent again, as the spool tells that it gave up messages", 0)
		}
		e.givenUp, e.counted = false, h.b.flood
		h.b.mu.Unlock()
		if done {
			return true
		}
		if !h.send(ctx, e, 1) {
			return false
		}
	}
	return false
}

// effect waits until an order that was done has acted, and its time is over.
func (h *orderGiver) effect(ctx context.Context, e *sentOrder) bool {
	h.b.mu.Lock()
	done := e.reply.Status == "done"
	if done && e.energises {
		h.b.proofs[h.output] = e.sent
	}
	h.b.mu.Unlock()
	line := lines[h.output]
	ok := h.wait(ctx, func() bool {
		return !done || (!e.energises || e.acts > 0) && (h.off || !h.b.levels[line].on)
	})
	h.b.mu.Lock()
	defer h.b.mu.Unlock()
	e.over = true
	return ok
}

// repeat sends an order of the past again, which gets its first answer.
func (h *orderGiver) repeat(ctx context.Context, e *sentOrder) bool {
	h.b.mu.Lock()
	n := e.answers + 1
	e.repeated, e.shaky = true, false
	h.b.current[lines[h.output]] = e
	h.b.mark()
	h.b.count["orders of the past sent again"]++
	h.b.mu.Unlock()
	return h.send(ctx, e, 1) && h.answered(ctx, e, n)
}

// retain has the broker keep an order as a retained message. strange says that
// the broker may know the daemon, and then keeps it for it besides.
func (c *testbed) retain(strange bool) {
	c.t.Helper()
	e := &sentOrder{output: siren, action: "on 1s", expires: time.Now().Add(time.Hour / 2), retained: true, strange: strange}
	c.books.begin(e)
	c.publish(e.topic, nil, "-r", "-m", string(e.payload))
	c.books.mu.Lock()
	e.posted = c.books.now()
	c.books.mu.Unlock()
	c.retained = e
}

// unretain waits for an answer to the retained order and removes it.
func (c *testbed) unretain() {
	c.t.Helper()
	e, b := c.retained, c.books
	if e == nil {
		return
	}
	c.retained = nil
	b.wait(daemontest.Patience, func() bool {
		n := len(b.crashes)
		forgotten := n > 0 && b.crashes[n-1].at > e.posted
		e.over = !forgotten
		return forgotten || e.copies+e.answers > 0
	})
	c.publish(e.topic, nil, "-r", "-n")
}

// publish publishes with a client that we did not write, which reads input where
// args say so.
func (c *testbed) publish(topic string, input []byte, args ...string) {
	c.t.Helper()
	host, port, _ := net.SplitHostPort(c.broker.Addr)
	args = append([]string{
		"-h", host, "-p", port, "--insecure", "--cafile", c.broker.CA, "--cert", c.broker.Cert, "--key", c.broker.Key,
		"-i", "stranger", "-q", "1", "-t", topic,
	}, args...)
	cmd := exec.Command("mosquitto_pub", args...)
	cmd.Stdin = bytes.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("mosquitto_pub: %v\n%s", err, out)
	}
}
