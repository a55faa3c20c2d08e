package uplink

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/health"
	"fieldpost/daemon/wake"
)

// fakeNetwork is a network that is down until up is set, with its watch.
type fakeNetwork struct {
	b       *broker
	why     error        // the error of dialing while it is down
	up      atomic.Bool  // the broker can be reached
	watches atomic.Int32 // number of started watches
	running atomic.Int32
}

func (f *fakeNetwork) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if !f.up.Load() {
		return nil, f.why
	}
	return f.b.dial(ctx, network, address)
}

func (f *fakeNetwork) watch(ctx context.Context, _ wake.Signal) error {
	f.watches.Add(1)
	f.running.Add(1)
	<-ctx.Done()
	f.running.Add(-1)
	return nil
}

// onFakeNetwork returns the configuration of a link to b over a network that is down.
func onFakeNetwork(b *broker) (Config, *fakeNetwork) {
	f := &fakeNetwork{b: b, why: syscall.ENETUNREACH}
	c := b.config()
	c.Dial, c.watchNetwork = f.dial, f.watch
	return c, f
}

// hours makes every wait last for hours.
func hours(time.Duration) time.Duration { return 10 * time.Hour }

// When an address or a route comes, the link connects at once. One watch runs while there
// is no connection, and none while there is one.
func TestChangeOfTheNetworkEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c, f := onFakeNetwork(b)
		l := runWaiting(t, c, hours)
		<-time.After(time.Hour)
		began := time.Now()
		f.up.Store(true)
		l.network.news.Set()
		p := b.accept(true)
		if d := time.Since(began); d != 0 {
			t.Errorf("connected %v after the network came", d)
		}
		synctest.Wait()
		if st := l.Status(); !st.Connected || f.watches.Load() != 1 || f.running.Load() != 0 {
			t.Errorf("connected: %v; of %d watches %d run", st.Connected, f.watches.Load(), f.running.Load())
		}
		p.hangUp()
		synctest.Wait()
		if f.watches.Load() != 2 || f.running.Load() != 1 {
			t.Errorf("without a connection %d of %d watches run", f.running.Load(), f.watches.Load())
		}
		l.end(t, nil)
		if f.running.Load() != 0 {
			t.Error("the watch outlives the link")
		}
	})
}

// A change of the network during an attempt is not forgotten.
func TestChangeOfTheNetworkDuringAnAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c, f := onFakeNetwork(b)
		var change atomic.Bool
		var news wake.Signal
		c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if change.CompareAndSwap(true, false) {
				news.Set()
				f.up.Store(true)
				return nil, syscall.EHOSTUNREACH
			}
			return f.dial(ctx, network, address)
		}
		l := runWaiting(t, c, hours)
		<-time.After(time.Minute)
		news = l.network.news
		change.Store(true)
		began := time.Now()
		news.Set()
		p := b.accept(true)
		if d := time.Since(began); d > 2*time.Second {
			t.Errorf("connected after %v", d)
		}
		l.end(t, p)
	})
}

// A network that goes up and down all the time causes no more attempts than the waits.
func TestFlappingLink(t *testing.T) {
	for name, c := range map[string]struct {
		down error
		most int
	}{
		"nothing is reached":  {syscall.ENETUNREACH, 3 + 3600/6},
		"the broker hangs up": {nil, 7 + 3600/120},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t)
				config, _ := onFakeNetwork(b)
				attempts, last := atomic.Int32{}, time.Time{}
				config.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
					if d := time.Since(last); d < time.Second {
						t.Errorf("two attempts within %v", d)
					}
					attempts.Add(1)
					last = time.Now()
					if c.down != nil {
						return nil, c.down
					}
					near, far := newPipe()
					far.Close()
					return near, nil
				}
				l := runWaiting(t, config, hours)
				for range 36_000 {
					<-time.After(100 * time.Millisecond)
					l.network.news.Set()
				}
				if n := int(attempts.Load()); n > c.most || n < c.most/2 {
					t.Errorf("%d attempts in an hour, want %d at most", n, c.most)
				}
				l.end(t, nil)
			})
		})
	}
}

// A change of the network does not shorten waits for failures that a person must fix.
func TestChangeOfTheNetworkAfterARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c, f := onFakeNetwork(b)
		f.up.Store(true)
		l := patiently(t, c)
		for l.code() != string(health.ConnectRefused) {
			b.refuse()
		}
		next := l.Status().Next
		for range 100 {
			l.network.news.Set()
			synctest.Wait()
		}
		if got := l.Status().Next; got != next {
			t.Errorf("the next attempt is %v earlier", next.Sub(got))
		}
		l.end(t, nil)
	})
}

// A watch that fails or ends does not change the waits, and starts again with the next
// one.
func TestWatchFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c, f := onFakeNetwork(b)
		c.watchNetwork = func(ctx context.Context, news wake.Signal) error {
			if f.watches.Load() < 5 {
				f.watches.Add(1)
				return errors.New("no such thing")
			}
			return f.watch(ctx, news)
		}
		l := patiently(t, c)
		<-time.After(time.Minute)
		f.up.Store(true)
		began := time.Now()
		p := b.accept(true)
		if d := time.Since(began); d > backoffMaxUnreached || f.watches.Load() != 6 {
			t.Errorf("connected after %v with %d watches", d, f.watches.Load())
		}
		l.end(t, p)
	})
}
