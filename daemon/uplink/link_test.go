package uplink

import (
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"fieldpost/daemon/health"
)

func TestConnectSaysWhoWeAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := b.config()
		c.KeepAlive = 45 * time.Second
		c.Will = &Mail{Topic: "status", Payload: []byte("offline")}
		l := run(t, c)
		p := b.peer()
		m := expect[*packets.ConnectPacket](p)
		if m.ProtocolName != "MQTT" || m.ProtocolVersion != 4 || m.ClientIdentifier != "board" || m.CleanSession || m.Keepalive != 45 {
			t.Errorf("connect: got %v", m)
		}
		if !m.WillFlag || m.WillTopic != "status" || string(m.WillMessage) != "offline" || m.WillQos != 1 || m.WillRetain {
			t.Errorf("will: got %v", m)
		}
		l.end(t, p)
	})
}

func TestSubscribesFirstAndAwaitsTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := b.config()
		c.Subscriptions = []Subscription{{"orders", 1}, {"more/#", 0}}
		l := run(t, c)
		sent := l.queue.Put("readings", []byte("1"))
		p := b.accept(false)
		s := expect[*packets.SubscribePacket](p)
		if s.Topics[0] != "orders" || s.Qoss[0] != 1 {
			t.Errorf("subscribe: got %v", s)
		}
		p.quiet(5 * time.Second)
		if l.Status().Connected {
			t.Error("connected before the subscriptions are answered")
		}
		p.suback(s.MessageID, 1)
		p.grant("more/#", 0)
		id := p.delivery("readings", "1")
		if st := l.Status(); !st.Connected || st.Err != nil || st.Attempts != 0 || st.Denied != nil {
			t.Errorf("status: got %+v", st)
		}
		p.puback(id)
		synctest.Wait()
		if got := settled(sent); got != "acknowledged" || l.Status().Acked != 1 {
			t.Errorf("message is %q, %d acknowledged", got, l.Status().Acked)
		}
		l.end(t, p)
	})
}

func TestWindowBoundsWhatIsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		for i := range 20 {
			l.queue.Put("t", []byte(strconv.Itoa(i)))
		}
		p := b.accept(false)
		var ids []uint16
		for i := range 16 {
			ids = append(ids, p.delivery("t", strconv.Itoa(i)))
		}
		p.quiet(10 * time.Second)
		p.puback(ids[0])
		p.delivery("t", "16")
		p.quiet(10 * time.Second)
		l.end(t, p)
	})
}

// A PUBACK that never comes: the connection is made anew and the message sent
// again, and only then counted.
func TestWithheldPuback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		sent := l.queue.Put("t", []byte("1"))
		p := b.accept(false)
		p.delivery("t", "1")
		began := time.Now()
		p.gone()
		if d := time.Since(began); d < 30*time.Second || d > 33*time.Second {
			t.Errorf("gave up after %v", d)
		}
		synctest.Wait()
		if l.code() != string(health.NoAcknowledgement) {
			t.Errorf("status: %v", l.Status().Err)
		}
		p = b.accept(true)
		id := p.delivery("t", "1")
		synctest.Wait()
		if got := settled(sent); got != "" || l.Status().Acked != 0 {
			t.Fatalf("without a PUBACK the message is %q, %d acknowledged", got, l.Status().Acked)
		}
		p.puback(id)
		synctest.Wait()
		if got := settled(sent); got != "acknowledged" {
			t.Errorf("message is %q", got)
		}
		l.end(t, p)
	})
}

// Of three messages the broker acknowledges the second and hangs up.
func TestOnlyWhatWasAcknowledgedIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		one, two, three := l.queue.Put("t", []byte("1")), l.queue.Put("t", []byte("2")), l.queue.Put("t", []byte("3"))
		p := b.accept(false)
		p.delivery("t", "1")
		id := p.delivery("t", "2")
		p.delivery("t", "3")
		p.puback(id)
		p.hangUp()
		p = b.accept(true)
		synctest.Wait()
		if a, b, c := settled(one), settled(two), settled(three); a != "" || b != "acknowledged" || c != "" {
			t.Errorf("messages are %q, %q, %q", a, b, c)
		}
		p.delivery("t", "1")
		p.delivery("t", "3")
		l.end(t, p)
	})
}

func TestConnackRefusals(t *testing.T) {
	for code, want := range map[byte]health.Code{1: health.ConnectRefused, 2: health.ConnectRefused, 3: health.NetworkDown, 4: health.ConnectRefused, 5: health.ConnectRefused, 7: health.ConnectRefused, 255: health.ConnectRefused} {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(t)
			l := run(t, b.config())
			sent := l.queue.Put("t", []byte("1"))
			p := b.peer()
			expect[*packets.ConnectPacket](p)
			p.connack(code, false)
			p.gone()
			synctest.Wait()
			if st := l.Status(); l.code() != string(want) || st.Connected || st.Attempts != 1 {
				t.Errorf("code %d: status %+v", code, st)
			}
			if code == 5 && !strings.Contains(l.Status().Err.(*Explained).Hint, "client/board") {
				t.Errorf("hint does not name the client id: %v", l.Status().Err)
			}
			p = b.accept(false)
			p.puback(p.delivery("t", "1"))
			synctest.Wait()
			if got := settled(sent); got != "acknowledged" || l.Status().Err != nil {
				t.Errorf("afterwards the message is %q, status %v", got, l.Status().Err)
			}
			l.end(t, p)
		})
	}
}

// The broker hangs up at each step.
func TestHangUps(t *testing.T) {
	steps := []struct {
		name string
		play func(*broker)
		want health.Code
	}{
		{"at once", func(b *broker) { b.raw().Close() }, health.NetworkDown},
		{"instead of a CONNACK", func(b *broker) {
			p := b.peer()
			expect[*packets.ConnectPacket](p)
			p.hangUp()
		}, health.ConnectRefused},
		{"without reading the CONNECT", func(b *broker) { b.peer().reset() }, health.CertificateRejected},
		{"instead of a SUBACK", func(b *broker) {
			p := b.accept(false)
			expect[*packets.SubscribePacket](p)
			p.hangUp()
		}, health.SubscribeDenied},
		{"instead of a PUBACK", func(b *broker) {
			p := b.accept(false)
			p.grant("orders", 1)
			p.delivery("t", "1")
			p.hangUp()
		}, health.NetworkDown},
		{"in the middle of a packet", func(b *broker) {
			p := b.accept(false)
			p.grant("orders", 1)
			p.delivery("t", "1")
			_, err := p.conn.Write([]byte{0x40, 2, 0})
			must(p.t, err)
			p.hangUp()
		}, health.NetworkDown},
	}
	for _, s := range steps {
		t.Run(s.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t)
				c := b.config()
				c.Subscriptions = []Subscription{{"orders", 1}}
				l := run(t, c)
				l.queue.Put("t", []byte("1"))
				s.play(b)
				synctest.Wait()
				if st := l.Status(); l.code() != string(s.want) || st.Connected {
					t.Errorf("want %s, status %+v", s.want, st)
				}
				p := b.accept(true) // it comes again, whatever it was
				p.grant("orders", 1)
				p.delivery("t", "1")
				l.end(t, p)
			})
		})
	}
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

func TestForgottenSessionIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := b.config()
		c.Subscriptions = []Subscription{{"orders", 1}}
		l := run(t, c)
		for i, present := range []bool{false, true, false, true} {
			p := b.accept(present)
			p.grant("orders", 1) // asked for anew, whatever the broker says it has
			synctest.Wait()
			if st := l.Status(); st.SessionPresent != present || st.SessionsLost != uint64(i/2) {
				t.Errorf("connection %d: %+v", i, st)
			}
			p.hangUp()
		}
		l.end(t, nil)
	})
}

func TestStalledPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		p := b.accept(false)
		synctest.Wait()
		began := time.Now()
		l.queue.Put("t", make([]byte, 100<<10)) // nobody reads
		p2 := b.raw()
		if d := time.Since(began); d < 5*time.Second || d > 8*time.Second {
			t.Errorf("a stall was seen after %v", d)
		}
		if l.code() != string(health.NetworkDown) {
			t.Errorf("status: %v", l.Status().Err)
		}
		p2.Close()
		l.end(t, p)
	})
}

func TestUnansweredPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		p := b.accept(false)
		began := time.Now()
		must(t, p.conn.SetReadDeadline(began.Add(patience)))
		if _, err := packets.ReadPacket(p.conn); err != nil {
			t.Fatal(err)
		}
		p.gone()
		if d := time.Since(began); d < 40*time.Second || d > 50*time.Second {
			t.Errorf("silence was seen after %v", d)
		}
		synctest.Wait()
		if e := l.Status().Err; l.code() != string(health.NetworkDown) || !strings.Contains(e.Error(), "no pingresp") {
			t.Errorf("status: %v", e)
		}
		l.end(t, nil)
	})
}

func TestUnansweredConnectAndSubscribe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := b.config()
		c.Subscriptions = []Subscription{{"orders", 1}}
		l := run(t, c)
		p := b.peer()
		expect[*packets.ConnectPacket](p)
		p.gone()
		synctest.Wait()
		if l.code() != string(health.NetworkDown) {
			t.Errorf("without a CONNACK: %v", l.Status().Err)
		}
		p = b.accept(false)
		expect[*packets.SubscribePacket](p)
		p.gone()
		synctest.Wait()
		if l.code() != string(health.NoAcknowledgement) {
			t.Errorf("without a SUBACK: %v", l.Status().Err)
		}
		l.end(t, nil)
	})
}

func TestRunTwiceAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		p := b.accept(false)
		if err := l.Run(t.Context()); err == nil {
			t.Error("ran twice at once")
		}
		l.end(t, p)
	})
}

// Two hundred connections die with messages in flight. What was counted as
// acknowledged had a PUBACK, and nothing is left over.
func TestKillsLoseNothingAndLeakNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const kills = 200
		b := newBroker(t)
		l := run(t, b.config())
		total := kills*2 + 30
		var done []<-chan error
		for i := range total {
			done = append(done, l.queue.Put("t", []byte(strconv.Itoa(i))))
		}
		acked := map[string]bool{}
		goroutines := 0
		for kill := range kills {
			p := b.accept(true)
			for range 2 {
				m := expect[*packets.PublishPacket](p)
				acked[string(m.Payload)] = true
				p.puback(m.MessageID)
			}
			expect[*packets.PublishPacket](p)
			p.hangUp()
			synctest.Wait()
			if kill == 0 {
				goroutines = runtime.NumGoroutine()
			}
		}
		if now := runtime.NumGoroutine(); now > goroutines+5 { // a few are the runtime's own
			t.Errorf("%d goroutines after the first kill, %d after the last", goroutines, now)
		}
		p := b.accept(true)
		for len(acked) < total {
			m := expect[*packets.PublishPacket](p)
			acked[string(m.Payload)] = true
			p.puback(m.MessageID)
		}
		synctest.Wait()
		for i, ch := range done {
			if got := settled(ch); got != "acknowledged" || !acked[strconv.Itoa(i)] {
				t.Errorf("message %d is %q, the broker acknowledged it: %v", i, got, acked[strconv.Itoa(i)])
			}
		}
		l.end(t, p)
	})
}
