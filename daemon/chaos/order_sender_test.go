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

// orderSender sends orders for one output, one after the other, and waits for each
// answer. It sends an order again only if the broker may have lost it: the daemon must
// answer every order that the broker accepted and kept, however the daemon is killed.
type orderSender struct {
	c      *testbed
	b      *checker
	output string
	random *rand.Rand
	past   []*sentOrder // answered orders, of which one is repeated now and then
	off    bool         // the next order switches off
}

// asks are the actions of orders, with their longest durations.
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

// work sends orders until ctx ends.
func (h *orderSender) work(ctx context.Context) {
	for h.wait(ctx, func() bool { return h.b.subscribed != 0 }) {
		e := h.next()
		h.b.begin(e)
		copies := 1 + max(0, h.random.IntN(8)-5)
		if h.calms() {
			copies = 1
		}
		if !h.send(ctx, e, copies) || !h.answered(ctx, e, 1) || !h.effect(ctx, e) {
			return
		}
		if h.past = append(h.past, e); len(h.past) > 20 {
			h.past = h.past[1:]
		}
		if h.random.IntN(3) == 0 && !h.calms() && !h.repeat(ctx, h.past[h.random.IntN(len(h.past))]) {
			return
		}
		h.b.wait(time.Duration(100+h.random.IntN(800))*time.Millisecond, func() bool {
			return h.b.proving || h.b.eager || ctx.Err() != nil
		})
	}
}

// calms reports whether a flood of orders must end before what is to be proven can be:
// nothing is sent twice then, which would keep it up.
func (h *orderSender) calms() bool {
	h.b.mu.Lock()
	defer h.b.mu.Unlock()
	return h.b.proving && h.b.flood
}

// next returns the next order.
func (h *orderSender) next() *sentOrder {
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

// wait waits until ok returns true. It returns false if ctx ends.
func (h *orderSender) wait(ctx context.Context, ok func() bool) bool {
	for !h.b.wait(daemontest.Patience, func() bool { return ctx.Err() != nil || ok() }) {
	}
	return ctx.Err() == nil
}

// send sends an order and waits until the broker has it.
func (h *orderSender) send(ctx context.Context, e *sentOrder, copies int) bool {
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

// answered waits until n answers have come.
func (h *orderSender) answered(ctx context.Context, e *sentOrder, n int) bool {
	// The broker may have lost the order before the daemon had it, and keeps orders for
	// the daemon now.
	lost := func() bool {
		return h.b.subscribed > e.posted || e.givenUp && h.b.linked || e.counted && h.b.linked && !h.b.flood
	}
	for h.wait(ctx, func() bool { return e.answers >= n || lost() }) {
		h.b.mu.Lock()
		done := e.answers >= n
		switch {
		case done:
		case h.b.subscribed > e.posted:
			h.b.tolerate("orders sent again because the broker may have lost them", 0)
		case e.counted:
			h.b.tolerate("orders sent again because they may only have been counted in a flood", 0)
		default:
			h.b.tolerate("orders sent again because the spool reports that it dropped messages", 0)
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

// effect waits until a carried-out order has acted and its duration has ended.
func (h *orderSender) effect(ctx context.Context, e *sentOrder) bool {
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

// repeat sends an answered order again, which gets its first answer.
func (h *orderSender) repeat(ctx context.Context, e *sentOrder) bool {
	h.b.mu.Lock()
	n := e.answers + 1
	e.repeated, e.shaky = true, false
	h.b.current[lines[h.output]] = e
	h.b.mark()
	h.b.count["answered orders sent again"]++
	h.b.mu.Unlock()
	return h.send(ctx, e, 1) && h.answered(ctx, e, n)
}

// retain publishes an order as a retained message. strange says that the broker may have
// the daemon's session, and then also delivers it there.
func (c *testbed) retain(strange bool) {
	c.t.Helper()
	e := &sentOrder{output: siren, action: "on 1s", expires: time.Now().Add(time.Hour / 2), retained: true, strange: strange}
	c.checker.begin(e)
	c.publish(e.topic, nil, "-r", "-m", string(e.payload))
	c.checker.mu.Lock()
	e.posted = c.checker.now()
	c.checker.mu.Unlock()
	c.retained = e
}

// unretain waits for the answer to the retained order and removes the order.
func (c *testbed) unretain() {
	c.t.Helper()
	e, b := c.retained, c.checker
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

// publish publishes with mosquitto_pub, which reads input if args say so.
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
