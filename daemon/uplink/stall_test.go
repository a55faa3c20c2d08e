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
		l.queue.Publish("t", make([]byte, 100<<10)) // nobody reads
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
			done = append(done, l.queue.Publish("t", []byte(strconv.Itoa(i))))
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

// A session that was lost is counted once, when the link stands, though the
// connections that found it out came to nothing, and the one that stands found
// the session that they had made.
func TestLostSessionIsCountedWhenTheLinkStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, orders(b))
		p := b.accept(false) // the first, which loses nothing
		expect[*packets.SubscribePacket](p)
		p.reset()
		p = b.accept(true)
		p.grant("orders", 1)
		synctest.Wait()
		if n := l.Status().SessionsLost; n != 0 {
			t.Errorf("%d sessions lost at the start", n)
		}
		p.hangUp()
		for range 2 {
			p = b.accept(false)
			expect[*packets.SubscribePacket](p)
			p.reset()
		}
		synctest.Wait()
		if n := l.Status().SessionsLost; n != 0 {
			t.Errorf("%d sessions lost while the link does not stand", n)
		}
		for range 2 {
			p = b.accept(true)
			p.grant("orders", 1)
			synctest.Wait()
			if st := l.Status(); !st.Connected || st.SessionsLost != 1 {
				t.Errorf("status: %+v", st)
			}
			p.hangUp()
		}
		l.end(t, nil)
	})
}

// A session of an earlier process that the broker said it had, and then had not.
func TestSessionOfAnEarlierProcessIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, orders(b))
		p := b.accept(true)
		expect[*packets.SubscribePacket](p)
		p.reset()
		p = b.accept(false)
		p.grant("orders", 1)
		synctest.Wait()
		if st := l.Status(); !st.Connected || st.SessionsLost != 1 {
			t.Errorf("status: %+v", st)
		}
		l.end(t, p)
	})
}
