package uplink

import (
	"fieldpost/daemon/health"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// kick simulates a broker to which another client with our client id connects a second
// after us: it reads, acknowledges nothing and closes. It returns the number of messages.
func kick(b *broker) (sent int) {
	b.t.Helper()
	p := b.accept(true)
	for {
		if _, err := p.readFor(time.Second); err != nil {
			break
		}
		sent++
	}
	must(b.t, p.conn.CloseWrite())
	p.gone()
	synctest.Wait()
	return sent
}

// Another client that returns before anything was acknowledged looks like a denial of
// what we publish. The difference is that it also ends connections without publishes.
// When it has stopped, all messages are sent at once.
func TestRivalOfABusyBoard(t *testing.T) {
	for _, topics := range []int{1, 10} {
		t.Run(fmt.Sprint(topics), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const n = 100
				b := newBroker(t)
				l := run(t, b.config())
				for i := range n {
					l.queue.Publish(fmt.Sprint("t", i%topics), fmt.Append(nil, i))
				}
				for i := range 14 {
					sent := kick(b)
					want, most := health.NetworkDown, 32
					switch {
					case i >= 7:
						want = health.DuplicateClient
					case i >= 5:
						most = 0 // it does not publish
					case i == 4:
						want, most = health.PublishDenied, 1
					case i >= 2:
						most = 1
					}
					if l.code() != string(want) || sent > most {
						t.Errorf("kick %d, after %d messages: %v, want %s", i+1, sent, l.Status().Err, want)
					}
				}
				p := b.accept(true)
				began := time.Now()
				for i := 0; i < n; i++ {
					p.puback(expect[*packets.PublishPacket](p).MessageID)
				}
				p.quiet(2 * time.Minute)
				if d := time.Since(began); l.Status().Err != nil || !l.Status().Connected || d > 4*time.Minute {
					t.Errorf("when it had gone, after %v: %+v", d, l.Status())
				}
				l.end(t, p)
			})
		})
	}
}

// The same with another client that returns before the SUBACK.
func TestRivalBeforeTheSuback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, orders(b))
		var codes []string
		for range 8 {
			kick(b)
			codes = append(codes, l.code())
		}
		if got := strings.Join(codes, " "); codes[2] != string(health.SubscribeDenied) || codes[7] != string(health.DuplicateClient) {
			t.Errorf("codes: %s", got)
		}
		p := b.accept(true)
		p.grant("orders", 1)
		p.quiet(time.Minute + 5*time.Second)
		if st := l.Status(); !st.Connected || st.Err != nil || len(st.Denied) > 0 {
			t.Errorf("when it had gone: %+v", st)
		}
		l.end(t, p)
	})
}

// A denied topic is never mistaken for another client, even if the board publishes to no
// other topic. And the denial is reported again after another client has come and gone.
func TestDenialIsNoRival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := b.config()
		c.KeepAlive = 7 * time.Hour // an unread ping would make a reset of a hang-up
		l := run(t, c)
		for i := range 40 {
			l.queue.Publish("t", fmt.Append(nil, i))
		}
		never := func(why string) *peer {
			t.Helper()
			p, _ := picky(b, 2*time.Minute, func(*packets.PublishPacket) bool {
				if l.code() == string(health.DuplicateClient) {
					t.Errorf("%s: %v", why, l.Status().Err)
				}
				return true
			})
			if l.code() != string(health.PublishDenied) || !l.Status().Connected {
				t.Errorf("%s: %+v", why, l.Status())
			}
			return p
		}
		p := never("denied")
		p.hangUp()
		for range 4 {
			kick(b)
		}
		if l.code() != string(health.DuplicateClient) {
			t.Errorf("with a rival: %v", l.Status().Err)
		}
		p, _ = picky(b, 90*time.Second, func(*packets.PublishPacket) bool { return true })
		if l.code() != string(health.PublishDenied) {
			t.Errorf("denied, without the rival: %+v", l.Status())
		}
		l.end(t, p)
	})
}

// Another client with our id is detected with such a broker too.
func TestRivalOnABrokerThatNeverSaysThatItHasASession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		for range 3 {
			p := b.accept(false)
			p.quiet(time.Second)
			p.hangUp()
			synctest.Wait()
		}
		if l.code() != string(health.DuplicateClient) {
			t.Errorf("status: %v", l.Status().Err)
		}
		l.end(t, nil)
	})
}

func TestIdleHangUpsMeanAnotherClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		for i := range 3 {
			p := b.accept(true)
			p.quiet(3 * time.Second)
			p.hangUp()
			synctest.Wait()
			want := health.NetworkDown
			if i == 2 {
				want = health.DuplicateClient
			}
			if l.code() != string(want) {
				t.Errorf("after %d hang-ups: %v", i+1, l.Status().Err)
			}
		}
		p := b.accept(true)
		p.quiet(50 * time.Second)
		if st := l.Status(); !st.Connected || l.code() != string(health.DuplicateClient) {
			t.Errorf("while it may happen again: %+v", st)
		}
		p.quiet(time.Minute)
		if st := l.Status(); !st.Connected || st.Err != nil {
			t.Errorf("after a minute: %+v", st)
		}
		p.hangUp()
		synctest.Wait()
		if l.code() != string(health.NetworkDown) {
			t.Errorf("after a long connection: %v", l.Status().Err)
		}
		l.end(t, nil)
	})
}

// The same while messages are in flight on allowed topics: detection takes longer, and no
// topic counts as denied.
func TestAnotherClientWhileMessagesFlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		n := 0
		next := func() { l.queue.Publish("t", []byte{byte('a' + n)}); n++ }
		next()
		for i := range 8 {
			p := b.accept(true)
			p.puback(expect[*packets.PublishPacket](p).MessageID)
			next()
			expect[*packets.PublishPacket](p)
			synctest.Wait()
			must(t, p.conn.CloseWrite())
			p.gone()
			synctest.Wait()
			want := health.NetworkDown
			if i >= 5 {
				want = health.DuplicateClient
			}
			if l.code() != string(want) {
				t.Errorf("after %d: %v", i+1, l.Status().Err)
			}
		}
		l.end(t, nil)
	})
}
