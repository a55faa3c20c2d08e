package uplink

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

func TestBackoff(t *testing.T) {
	var bounds []time.Duration
	b := backoff{random: func(below time.Duration) time.Duration {
		bounds = append(bounds, backoffMin+below)
		return 0
	}}
	for range 100 {
		if got := b.next(backoffMax); got != time.Second {
			t.Fatalf("waits %v, want the least, 1s", got)
		}
	}
	for i, want := range []time.Duration{4, 4, 8, 16, 32, 64, 120, 120} {
		if bounds[i] != want*time.Second {
			t.Errorf("bound %d is %v, want %vs", i, bounds[i], want)
		}
	}
	if last := bounds[99]; last != backoffMax {
		t.Errorf("bound at last: %v", last)
	}
	if b.next(backoffMaxRefused); bounds[100] != 15*time.Minute {
		t.Errorf("bound after a refusal: %v", bounds[100])
	}
	b.reset()
	if b.next(backoffMax); bounds[101] != 4*time.Second {
		t.Errorf("bound after a reset: %v", bounds[101])
	}
	b.random = jitter
	for range 1000 {
		if got := b.next(backoffMax); got < time.Second || got >= backoffMax {
			t.Fatalf("waits %v", got)
		}
	}
}

// The waits between failures double up to their limit, and start over after a connection
// that lasted.
func TestWaitsGrowAndStartOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		l.backoff.random = func(below time.Duration) time.Duration { return below }
		b.raw().Close()
		for _, want := range []time.Duration{4, 4, 8, 16, 32, 64, 120, 120} {
			began := time.Now()
			b.raw().Close()
			if got := time.Since(began); got != want*time.Second {
				t.Errorf("waited %v, want %vs", got, want)
			}
		}
		for _, c := range []struct {
			send bool
			last time.Duration
			want time.Duration
		}{{true, 10 * time.Second, 120}, {false, 50 * time.Second, 120}, {true, 70 * time.Second, 4}, {false, 70 * time.Second, 4}} {
			p := b.accept(true)
			if c.send {
				l.queue.Publish("t", []byte("1"))
				p.puback(p.delivery("t", "1"))
			}
			p.quiet(c.last)
			p.hangUp()
			began := time.Now()
			b.raw().Close()
			if got := time.Since(began); got != c.want*time.Second {
				t.Errorf("after %+v waited %v", c, got)
			}
		}
		l.end(t, nil)
	})
}

func TestTurnsWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := orders(b)
		last, longest := time.Now(), time.Duration(0)
		c.Heartbeat = func() {
			longest = max(longest, time.Since(last))
			last = time.Now()
		}
		l := run(t, c)
		b.raw() // 20 s for TLS
		p := b.accept(false)
		expect[*packets.SubscribePacket](p)
		p.gone() // 15 s for the SUBACK
		p = b.accept(false)
		p.grant("orders", 1)
		l.queue.Publish("t", []byte("1"))
		p.delivery("t", "1")
		p.gone() // 30 s for the PUBACK
		l.end(t, nil)
		if longest > 5*time.Second {
			t.Errorf("did not turn for %v", longest)
		}
	})
}

// The status has the time of the next attempt until it begins.
func TestStatusTellsTheNextAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		l.backoff.random = func(below time.Duration) time.Duration { return below }
		b.raw().Close()
		synctest.Wait()
		if got := time.Until(l.Status().Next); got != 4*time.Second {
			t.Errorf("next attempt in %v, want in 4s", got)
		}
		p := b.accept(true)
		synctest.Wait()
		if st := l.Status(); !st.Next.IsZero() || !st.Connected {
			t.Errorf("while it stands: %+v", st)
		}
		l.end(t, p)
	})
}
