package uplink

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"fieldpost/daemon/health"
)

// ask calls Reconnect on another goroutine.
func (r *running) ask() <-chan Status {
	done := make(chan Status, 1)
	go func() {
		if s, err := r.Reconnect(context.Background()); err == nil {
			done <- s
		}
		close(done)
	}()
	synctest.Wait()
	return done
}

// patiently starts a link with the longest waits.
func patiently(t *testing.T, c Config) *running {
	t.Helper()
	return runWaiting(t, c, func(below time.Duration) time.Duration { return below - 1 })
}

// refuse refuses the next connection.
func (b *broker) refuse() {
	b.t.Helper()
	p := b.peer()
	expect[*packets.ConnectPacket](p)
	p.hangUp()
	synctest.Wait()
}

// Reconnect makes the next attempt at once, however long the wait is, and the waits start
// over.
func TestReconnectEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := patiently(t, b.config())
		for range 9 {
			b.refuse()
		}
		<-time.After(time.Minute)
		if left := time.Until(l.Status().Next); left < 5*time.Minute {
			t.Fatalf("the next attempt is in %v", left)
		}
		began := time.Now()
		done := l.ask()
		b.refuse()
		if st := <-done; st.Connected || l.code() != string(health.ConnectRefused) || time.Since(began) != 0 {
			t.Errorf("after %v: %+v", time.Since(began), st)
		}
		if left := time.Until(l.Status().Next); left > backoffLeast {
			t.Errorf("the next attempt is in %v", left)
		}
		done = l.ask()
		p := b.accept(true)
		if st := <-done; !st.Connected || st.Err != nil {
			t.Errorf("status: %+v", st)
		}
		l.end(t, p)
	})
}

// However often Reconnect is called, AWS IoT Core gets at most one CONNECT a second, and
// concurrent callers share one.
func TestReconnectKeepsTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := patiently(t, b.config())
		var last time.Time
		for range 5 {
			var all []<-chan Status
			for range 20 {
				all = append(all, l.ask())
			}
			b.refuse()
			for _, done := range all {
				if st := <-done; st.Connected {
					t.Errorf("status: %+v", st)
				}
			}
			if d := time.Since(last); d < time.Second {
				t.Errorf("two CONNECTs within %v", d)
			}
			last = time.Now()
		}
		l.end(t, nil)
	})
}

// An open connection is closed in order and a new one is made, with the subscriptions
// that were left out.
func TestReconnectOfALinkThatStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := orders(b)
		c.Will = &Publication{Topic: "status", Payload: []byte("offline")}
		l := patiently(t, c)
		p := b.accept(true)
		p.grant("orders", 0x80)
		sent := l.queue.Publish("t", []byte("1"))
		p.delivery("t", "1") // not acknowledged
		p.quiet(10 * time.Second)
		began := time.Now()
		done := l.ask()
		expect[*packets.DisconnectPacket](p)
		p.gone()
		p = b.accept(true)
		p.grant("orders", 1)
		if st := <-done; !st.Connected || st.Err != nil || st.Denied != nil || time.Since(began) > 2*time.Second {
			t.Errorf("after %v: %+v", time.Since(began), st)
		}
		p.puback(p.delivery("t", "1"))
		synctest.Wait()
		if got := settled(sent); got != "acknowledged" {
			t.Errorf("the message is %q", got)
		}
		p.quiet(time.Hour) // there is only one new connection
		l.end(t, p)
	})
}

// Reconnect during an attempt returns the result of that attempt.
func TestReconnectWhileConnecting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := patiently(t, b.config())
		p := b.peer()
		expect[*packets.ConnectPacket](p)
		done := l.ask()
		p.connack(0, true)
		if st := <-done; !st.Connected {
			t.Errorf("status: %+v", st)
		}
		p.quiet(time.Hour)
		l.end(t, p)
	})
}

func TestReconnectIsGivenUp(t *testing.T) {
	l, err := New(newBroker(t).config())
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Reconnect(ctx); err != context.Canceled {
		t.Errorf("a link that does not run: %v", err)
	}
}

// After another client with our client id has stopped, no wait is longer than two
// minutes. If it reconnects less often, our waits are short.
func TestWaitsAfterARival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := patiently(t, b.config())
		for range 12 {
			kick(b)
		}
		if left := time.Until(l.Status().Next); l.code() != string(health.DuplicateClient) || left > 2*time.Minute || left < time.Minute {
			t.Errorf("with a rival: %v, the next attempt in %v", l.Status().Err, left)
		}
		p := b.accept(true)
		p.quiet(40 * time.Second)
		must(t, p.conn.CloseWrite())
		p.gone()
		synctest.Wait()
		if left := time.Until(l.Status().Next); l.code() != string(health.DuplicateClient) || left > 16*time.Second {
			t.Errorf("when it is back after 40 s: %v, the next attempt in %v", l.Status().Err, left)
		}
		p = b.accept(true)
		p.quiet(2 * time.Minute)
		if st := l.Status(); !st.Connected || st.Err != nil {
			t.Errorf("when it has gone: %+v", st)
		}
		l.end(t, p)
	})
}
