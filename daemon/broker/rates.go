package broker

import (
	"context"
	"sync"
	"time"

	"fieldpost/daemon/awsiot"
)

// rates are the limits of one connection that depend on time. Each direction has its own.
type rates struct {
	ctx context.Context // of the connection
	now func() time.Time
	nap func(ctx context.Context, d time.Duration) error

	mu        sync.Mutex
	published window // by the client
	delivered window // to the client
	received  bucket
	sent      bucket
}

// window counts messages in a second.
type window struct {
	from  time.Time
	count int
}

// admits counts one more. excess is which of the second it is above the rate, from 1;
// 0 is within it.
func (w *window) admits(now time.Time) (excess int) {
	if now.Sub(w.from) >= time.Second || now.Before(w.from) {
		w.from, w.count = now, 0
	}
	w.count++
	return max(w.count-awsiot.PublishRate, 0)
}

// bucket delays bytes above [awsiot.Throughput]. It lets one second's worth through at once.
type bucket struct {
	at   time.Time
	owed float64 // bytes that are not paid for yet
}

// take counts n bytes and returns how long they are delayed.
func (b *bucket) take(n int, now time.Time) time.Duration {
	if passed := now.Sub(b.at).Seconds(); passed > 0 {
		b.owed = max(0, b.owed-passed*awsiot.Throughput)
	}
	b.at = now
	b.owed += float64(n)
	return max(0, time.Duration((b.owed/awsiot.Throughput-1)*float64(time.Second)))
}

// publish counts a message of the client, and deliver one to it. Both are [window.admits].
func (r *rates) publish() (excess int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.published.admits(r.now())
}

func (r *rates) deliver() (excess int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.delivered.admits(r.now())
}

// pass waits as long as n bytes of a direction are delayed.
func (r *rates) pass(b *bucket, n int) error {
	r.mu.Lock()
	d := b.take(n, r.now())
	r.mu.Unlock()
	if d == 0 {
		return nil
	}
	return r.nap(r.ctx, d)
}

// nap waits until d has passed or ctx has ended.
func nap(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Read reads from the client, at the rate of AWS IoT Core.
func (c *identified) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err == nil && c.rates != nil {
		err = c.rates.pass(&c.rates.received, n)
	}
	return n, err
}

// Write writes to the client, at the rate of AWS IoT Core.
func (c *identified) Write(p []byte) (int, error) {
	if c.rates != nil {
		if err := c.rates.pass(&c.rates.sent, len(p)); err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(p)
}

// connects knows when each client id last connected.
type connects struct {
	mu   sync.Mutex
	last map[string]time.Time
}

// connectsKept bounds what is remembered: client ids that connected within the last second are
// seldom more.
const connectsKept = 4096

// admits counts a CONNECT, and reports whether it is within the rate. One that is not does
// not count.
func (c *connects) admits(id string, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at, ok := c.last[id]; ok && now.Sub(at) < awsiot.ConnectEvery && !now.Before(at) {
		return false
	}
	if len(c.last) >= connectsKept {
		for other, at := range c.last {
			if now.Sub(at) >= awsiot.ConnectEvery || now.Before(at) {
				delete(c.last, other)
			}
		}
	}
	if c.last == nil {
		c.last = map[string]time.Time{}
	}
	c.last[id] = now
	return true
}
