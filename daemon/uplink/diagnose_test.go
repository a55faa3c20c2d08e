package uplink

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"fieldpost/daemon/health"
)

func TestEndings(t *testing.T) {
	alert := &net.OpError{Op: "remote error", Err: errors.New("tls: access denied")}
	reset := os.NewSyscallError("read", syscall.ECONNRESET)
	for _, c := range []struct {
		err    error
		remote bool
		want   endKind
	}{
		{io.EOF, true, closedByPeer},
		{alert, true, closedByPeer},
		{io.ErrUnexpectedEOF, true, resetByPeer},
		{&net.OpError{Op: "read", Err: reset}, true, resetByPeer},
		{os.NewSyscallError("write", syscall.EPIPE), true, resetByPeer},
		{errNoSuback, false, brokenByNetwork},
		{os.NewSyscallError("read", syscall.ETIMEDOUT), false, brokenByNetwork},
	} {
		if got := kindOfEnd(c.err, c.remote); got != c.want {
			t.Errorf("%v: %v, want %v", c.err, got, c.want)
		}
	}
}

func TestRetriesGrowToAnHour(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	b := denials{}
	var waits []time.Duration
	for range 8 {
		waits = append(waits, b.deny("x", closedByPeer, now).retryAt.Sub(now)/time.Minute)
	}
	if want := []time.Duration{1, 2, 4, 8, 16, 32, 60, 60}; !slices.Equal(waits, want) {
		t.Errorf("minutes %v, want %v", waits, want)
	}
	b.prove()
	b.retryUnproven(now)
	if b.due(now.Add(59 * time.Minute)) {
		t.Error("what is proven is doubted")
	}
	b["x"].proven = false
	b.retryUnproven(now)
	if !b.due(now) {
		t.Error("what is doubted is not due")
	}
}

// faults are failures of the network after a connection was accepted.
var faults = map[string]func(p *peer){
	"reset": func(p *peer) { p.reset() },
	"silent": func(p *peer) {
		for err := error(nil); err == nil; {
			_, err = p.read()
		}
		p.hangUp()
	},
	"cut short": func(p *peer) {
		_, err := p.conn.Write([]byte{0x90, 3, 0})
		must(p.t, err)
		p.hangUp()
	},
}

// If a bad network ends connections while the link waits for a SUBACK, sometimes in order
// and sometimes not, nothing counts as denied.
func TestBadNetworkDeniesNoSubscription(t *testing.T) {
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t)
				l := run(t, orders(b))
				for i := range 12 {
					p := b.accept(true)
					expect[*packets.SubscribePacket](p)
					if i%3 == 2 {
						fault(p)
					} else {
						p.hangUp()
					}
					synctest.Wait()
					if st := l.Status(); l.code() == string(health.SubscribeDenied) || st.Denied != nil {
						t.Fatalf("after %d: %+v", i+1, st)
					}
				}
				p := b.accept(true)
				p.grant("orders", 1)
				l.end(t, p)
			})
		})
	}
}

// Two hang-ups with a network failure, or another end of a connection, in between do not
// count as consecutive.
func TestHangUpsThatAreNotInARowDenyNothing(t *testing.T) {
	for name, between := range map[string]func(b *broker){
		"refused dial": func(b *broker) { b.raw().Close() },
		"idle hang-up": func(b *broker) {
			p := b.accept(true)
			p.grant("orders", 1)
			p.quiet(time.Second)
			p.hangUp()
		},
		"no CONNACK": func(b *broker) {
			p := b.peer()
			expect[*packets.ConnectPacket](p)
			p.gone()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t)
				l := run(t, orders(b))
				for range 5 {
					for range 2 {
						p := b.accept(true)
						expect[*packets.SubscribePacket](p)
						p.hangUp()
					}
					between(b)
					synctest.Wait()
					if st := l.Status(); st.Denied != nil {
						t.Fatalf("status: %+v", st)
					}
				}
				p := b.accept(true)
				p.grant("orders", 1)
				l.end(t, p)
			})
		})
	}
}

// A hang-up long after the SUBSCRIBE is no answer to it.
func TestLateHangUpIsNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, orders(b))
		for range 5 {
			p := b.accept(true)
			expect[*packets.SubscribePacket](p)
			p.quiet(answerWithin + time.Second)
			p.hangUp()
			synctest.Wait()
			if st := l.Status(); st.Denied != nil || l.code() != string(health.NetworkDown) {
				t.Fatalf("status: %+v", st)
			}
		}
		l.end(t, nil)
	})
}

// A broker that resets the connection instead of closing it is understood too, but later.
func TestSubscriptionRefusedByResets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, orders(b))
		for i := range 8 {
			p := b.accept(true)
			expect[*packets.SubscribePacket](p)
			if st := l.Status(); st.Denied != nil {
				t.Fatalf("after %d resets: %+v", i, st)
			}
			p.reset()
		}
		p := b.accept(true)
		synctest.Wait()
		if st := l.Status(); !st.Connected || !slices.Equal(st.Denied, []string{"orders"}) {
			t.Errorf("status: %+v", st)
		}
		l.end(t, p)
	})
}

// Three hang-ups caused by the network: the connection does not last without the
// subscription either, so the subscription is retried at once.
func TestWronglyDeniedSubscriptionIsAskedForAtOnce(t *testing.T) {
	for name, end := range map[string]func(p *peer){
		"hang-up": func(p *peer) { p.hangUp() },
		"reset":   func(p *peer) { p.reset() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t)
				l := run(t, orders(b))
				for range 3 {
					p := b.accept(true)
					expect[*packets.SubscribePacket](p)
					p.hangUp()
				}
				p := b.accept(true)
				p.quiet(3 * time.Second)
				if st := l.Status(); !st.Connected || !slices.Equal(st.Denied, []string{"orders"}) {
					t.Errorf("status: %+v", st)
				}
				end(p)
				p = b.accept(true)
				p.grant("orders", 1)
				synctest.Wait()
				if st := l.Status(); !st.Connected || st.Denied != nil || st.Err != nil {
					t.Errorf("status: %+v", st)
				}
				l.end(t, p)
			})
		})
	}
}

// If the broker really denies it, network failures do not change that for long: one
// connection without the subscription, one hang-up.
func TestDeniedSubscriptionOnABadNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, orders(b))
		asked, stood := 0, 0
		for range 23 {
			p := b.accept(true)
			cp, err := p.readFor(5 * time.Second)
			switch {
			case err == nil:
				if _, ok := cp.(*packets.SubscribePacket); !ok {
					t.Fatalf("got %v", cp)
				}
				asked++
				p.hangUp()
			default:
				stood++
				p.reset()
			}
			synctest.Wait()
		}
		if asked != 12+1 || stood != 10 {
			t.Errorf("asked for in %d of 23 connections, %d stood without it", asked, stood)
		}
		l.end(t, nil)
	})
}

// A broker that is restarted repeatedly while messages are in flight denies no topic and
// no message, whether it closes the connection in order or not.
func TestBadNetworkDeniesNoTopic(t *testing.T) {
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t)
				l := run(t, b.config())
				var sent []<-chan error
				for i := range 5 {
					sent = append(sent, l.queue.Publish("t", fmt.Append(nil, i)))
				}
				for i := range 30 {
					p := b.accept(true)
					p.delivery("t", "0")
					if i%3 == 2 {
						fault(p)
					} else {
						p.hangUp()
					}
					synctest.Wait()
					if l.code() == string(health.PublishDenied) {
						t.Fatalf("after %d: %v", i+1, l.Status().Err)
					}
				}
				p := b.accept(true)
				for i := range sent {
					p.puback(p.delivery("t", fmt.Sprint(i)))
				}
				synctest.Wait()
				for i, ch := range sent {
					if got := settled(ch); got != "acknowledged" {
						t.Errorf("message %d is %q", i, got)
					}
				}
				l.end(t, p)
			})
		})
	}
}

// A topic that counts as denied because of the network is retried as soon as the
// connection does not last without it either.
func TestWronglyDeniedTopicIsTriedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		sent := l.queue.Publish("t", []byte("1"))
		for range 3 {
			p := b.accept(true)
			p.delivery("t", "1")
			p.hangUp()
		}
		p := b.accept(true)
		p.quiet(time.Second)
		if l.code() != string(health.PublishDenied) {
			t.Errorf("status: %v", l.Status().Err)
		}
		p.reset()
		p = b.accept(true)
		began := time.Now()
		p.puback(p.delivery("t", "1"))
		synctest.Wait()
		if d := time.Since(began); settled(sent) != "acknowledged" || d > time.Second || l.Status().Err != nil {
			t.Errorf("after %v: %v", d, l.Status().Err)
		}
		l.end(t, p)
	})
}
