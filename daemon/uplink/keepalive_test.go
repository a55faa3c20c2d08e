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

// way is a path to the broker with a device that drops a connection after idle time
// without data.
type way struct {
	idle time.Duration
	// end is what happens to the connection then: closed, reset, "forgotten without a
	// word" or "reset at the next packet".
	end string
}

// carry simulates the broker behind the device for the time lasts, or until the
// connection is dropped, which it reports. It acknowledges all messages.
func (w way) carry(p *peer, lasts time.Duration) (ended bool) {
	p.t.Helper()
	over := time.Now().Add(lasts)
	for {
		heard := time.Now()
		must(p.t, p.conn.SetReadDeadline(over.Add(w.idle)))
		if !strings.Contains(w.end, "n") { // closed, reset: at that time
			must(p.t, p.conn.SetReadDeadline(heard.Add(w.idle)))
		}
		cp, err := packets.ReadPacket(p.conn)
		if now := time.Now(); now.Sub(heard) >= w.idle {
			w.giveUp(p)
			return true
		} else if !now.Before(over) {
			return false
		}
		must(p.t, err)
		switch m := cp.(type) {
		case *packets.PublishPacket:
			p.puback(m.MessageID)
		case *packets.PingreqPacket:
			p.send(packets.NewControlPacket(packets.Pingresp))
		default:
			p.t.Fatalf("got %v", m)
		}
	}
}

func (w way) giveUp(p *peer) {
	switch w.end {
	case "closed":
		p.hangUp()
	case "reset", "reset at the next packet":
		p.reset()
	case "forgotten without a word":
		for err := error(nil); err == nil; {
			_, err = packets.ReadPacket(p.conn)
		}
		p.hangUp()
	}
	synctest.Wait()
}

// However an idle connection is dropped, and after whatever time, that is detected and
// reported, and pings are sent often enough. No other client is blamed, nothing counts as
// denied, and no wait is long.
func TestIdleTimeout(t *testing.T) {
	for _, end := range []string{"closed", "reset", "forgotten without a word", "reset at the next packet"} {
		for _, idle := range []time.Duration{2, 5, 20, 50, 100, 350} {
			for _, every := range []time.Duration{0, 27, 170} { // the period of readings; 0: none
				w := way{idle * time.Second, end}
				if strings.Contains(end, "n") && idle < 20 {
					continue // no NAT has such a short timeout, and a bad network may look like one
				}
				t.Run(fmt.Sprintf("%s after %v, reading every %v", end, w.idle, every*time.Second), func(t *testing.T) {
					checkIdleTimeout(t, w, every*time.Second)
				})
			}
		}
	}
}

func checkIdleTimeout(t *testing.T, w way, every time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := b.config()
		c.KeepAlive = 20 * time.Minute
		var longest time.Duration
		l := runWaiting(t, c, func(below time.Duration) time.Duration {
			longest = max(longest, below)
			return below / 2
		})
		stop := readings(l, every)
		defer stop()
		var codes []string
		for {
			p := b.accept(true)
			if !w.carry(p, time.Hour) {
				if st := l.Status(); !st.Connected || st.Err != nil || len(codes) > 0 && (st.IdleTimeout < w.idle*9/10 || st.IdleTimeout > 22*time.Minute) {
					t.Errorf("after %q: %+v", codes, st)
				}
				stop()
				l.end(t, p)
				break
			}
			codes = append(codes, l.code())
			if len(codes) > 12 {
				t.Fatalf("no connection lasts: %q", codes)
			}
		}
		said := strings.Join(codes, " ")
		if strings.Contains(said, string(health.DuplicateClient)) || strings.Contains(said, string(health.PublishDenied)) || longest > 8*time.Second {
			t.Errorf("waits up to %v, %s", longest, said)
		}
		if w.idle >= minReportedIdle && len(codes) > 0 && !strings.Contains(said, string(health.IdleTimeout)) {
			t.Errorf("it was not told: %s", said)
		}
		t.Logf("%s; pings every %v", said, l.Status().PingEvery)
	})
}

// readings puts one message after the other until stop is called.
func readings(l *running, every time.Duration) (stop func()) {
	if every == 0 {
		return func() {}
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				l.queue.Publish("t", []byte("1"))
			case <-quit:
				return
			}
		}
	}()
	var once bool
	return func() {
		if !once {
			once = true
			close(quit)
			<-done
		}
	}
}

// The fault says that pings may help, and clears when they have.
func TestIdleTimeoutIsSaidUntilTheConnectionLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		w := way{20 * time.Second, "closed"}
		w.carry(b.accept(true), time.Hour)
		w.carry(b.accept(true), time.Hour)
		checkSays(t, l.Status().Err.(*Explained), health.IdleTimeout, "for 20s", "a proxy or a NAT", "a ping goes every 8s", "timeout client")
		p := b.accept(true)
		if w.carry(p, 50*time.Second) {
			t.Fatal("it ended in spite of pings")
		}
		if st := l.Status(); !st.Connected || l.code() != string(health.IdleTimeout) {
			t.Errorf("after 50 s: %+v", st)
		}
		if w.carry(p, 20*time.Second) {
			t.Fatal("it ended in spite of pings")
		}
		if st := l.Status(); !st.Connected || st.Err != nil || st.PingEvery != 8*time.Second || st.IdleTimeout != 20*time.Second {
			t.Errorf("after 70 s: %+v", st)
		}
		l.end(t, p)
	})
}

// A broker that applies the keep-alive exactly, not one and a half times, ends
// connections shortly before our pings come. That is also detected.
func TestBrokerThatTakesTheKeepAliveToTheLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		w := way{29900 * time.Millisecond, "closed"}
		w.carry(b.accept(true), time.Hour)
		w.carry(b.accept(true), time.Hour)
		p := b.accept(true)
		if w.carry(p, time.Hour) || l.Status().Err != nil {
			t.Errorf("status: %+v", l.Status())
		}
		l.end(t, p)
	})
}

// With more frequent pings a link also detects a dead connection sooner.
func TestCloserPingsFindADeadConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := b.config()
		c.KeepAlive = 20 * time.Minute
		l := run(t, c)
		w := way{20 * time.Second, "closed"}
		w.carry(b.accept(true), time.Hour)
		w.carry(b.accept(true), time.Hour)
		p := b.accept(true)
		w.carry(p, 10*time.Minute)
		began := time.Now()
		way{end: "forgotten without a word"}.giveUp(p)
		if d := time.Since(began); d > 8*time.Second+pingTimeout+heartbeatEvery || l.code() != string(health.NetworkDown) {
			t.Errorf("after %v: %v", d, l.Status().Err)
		}
		l.end(t, nil)
	})
}

// Another client that always reconnects after the same time looks like an idle timeout,
// until it does so in spite of pings.
func TestRivalThatIsBackAfterAConstantTime(t *testing.T) {
	for _, after := range []time.Duration{3, 7, 10, 25, 45} {
		t.Run(fmt.Sprint(after*time.Second), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t)
				l := run(t, b.config())
				var codes []string
				for range 12 {
					p := b.accept(true)
					p.quiet(after * time.Second)
					must(t, p.conn.CloseWrite())
					p.gone()
					synctest.Wait()
					codes = append(codes, l.code())
				}
				for i, code := range codes[2:] {
					if code != string(health.DuplicateClient) {
						t.Errorf("close %d: %s", i+3, codes)
						break
					}
				}
				p := b.accept(true)
				p.quiet(2 * time.Minute)
				if st := l.Status(); !st.Connected || st.Err != nil {
					t.Errorf("when it had gone: %+v", st)
				}
				l.end(t, p)
			})
		})
	}
}

// A bad network, which drops connections at any time, is no idle timeout.
func TestBadNetworkIsNoIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		for i := range 12 {
			p := b.accept(true)
			p.quiet(time.Duration(40+17*(i%5)) * time.Second)
			way{end: "forgotten without a word"}.giveUp(p)
			if l.code() != string(health.NetworkDown) || l.Status().PingEvery != 0 {
				t.Fatalf("after %d: %+v", i+1, l.Status())
			}
		}
		l.end(t, nil)
	})
}

// A device that ends each connection at a certain age, regardless of data, is no idle
// timeout, even if the last pings before that come at the same times.
func TestAgeLimitIsNoIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		for i := range 6 {
			p := b.accept(true)
			p.quiet(10*time.Minute + 12*time.Second)
			p.hangUp()
			synctest.Wait()
			if l.code() != string(health.NetworkDown) || l.Status().PingEvery != 0 {
				t.Fatalf("after %d: %+v", i+1, l.Status())
			}
		}
		l.end(t, nil)
	})
}

// A known timeout is kept over a broker's restart, and a shorter one is also detected.
func TestIdleTimeoutBecomesShorter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := b.config()
		c.KeepAlive = 20 * time.Minute
		l := run(t, c)
		long, short := way{100 * time.Second, "closed"}, way{20 * time.Second, "closed"}
		long.carry(b.accept(true), time.Hour)
		long.carry(b.accept(true), time.Hour)
		p := b.accept(true)
		long.carry(p, time.Hour)
		p.hangUp() // the broker restarts
		synctest.Wait()
		if l.code() != string(health.NetworkDown) || l.Status().PingEvery != 40*time.Second {
			t.Errorf("after a restart: %+v", l.Status())
		}
		short.carry(b.accept(true), time.Hour)
		short.carry(b.accept(true), time.Hour)
		if l.code() != string(health.IdleTimeout) || l.Status().PingEvery != 8*time.Second {
			t.Errorf("after a shorter one: %+v", l.Status())
		}
		p = b.accept(true)
		if short.carry(p, time.Hour) {
			t.Error("it ended in spite of pings")
		}
		l.end(t, p)
	})
}

// The CONNECT has the configured keep-alive. A ping goes when nothing was sent for that
// long, and none while messages are published.
func TestPingsGoWhenNothingElseDoes(t *testing.T) {
	for _, c := range []struct {
		keepAlive, reading time.Duration
		pings              int // in ten minutes
	}{{30 * time.Second, 0, 20}, {20 * time.Minute, 0, 0}, {30 * time.Second, 5 * time.Second, 0}, {30 * time.Second, 40 * time.Second, 15}} {
		t.Run(fmt.Sprintf("keep-alive %v, reading every %v", c.keepAlive, c.reading), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t)
				cfg := b.config()
				cfg.KeepAlive = c.keepAlive
				l := run(t, cfg)
				p := b.peer()
				if m := expect[*packets.ConnectPacket](p); m.Keepalive != uint16(c.keepAlive/time.Second) || m.ClientIdentifier != cfg.ClientID {
					t.Errorf("CONNECT: %v", m)
				}
				p.connack(0, false)
				stop := readings(l, c.reading)
				defer stop()
				pings, sent := 0, time.Now()
				for end := sent.Add(10*time.Minute + time.Second); ; {
					must(t, p.conn.SetReadDeadline(end))
					cp, err := packets.ReadPacket(p.conn)
					if err != nil {
						break
					}
					if d := time.Since(sent); d > c.keepAlive {
						t.Errorf("nothing was sent for %v", d)
					}
					sent = time.Now()
					switch m := cp.(type) {
					case *packets.PublishPacket:
						p.puback(m.MessageID)
					case *packets.PingreqPacket:
						pings++
						p.send(packets.NewControlPacket(packets.Pingresp))
					default:
						t.Fatalf("got %v", m)
					}
				}
				if pings != c.pings || !l.Status().Connected {
					t.Errorf("%d pings, want %d; %+v", pings, c.pings, l.Status())
				}
				stop()
				l.end(t, p)
			})
		})
	}
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

func TestStalledPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		p := b.accept(false)
		synctest.Wait()
		began := time.Now()
		l.queue.Publish("t", make([]byte, 100<<10)) // the broker does not read
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

// The link sends, and gets, a packet in every keep-alive interval (section 3.1.2.10),
// whether or not it publishes.
func TestPingsWhilePublishing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := b.config()
		c.KeepAlive = 30 * time.Second
		l := run(t, c)
		p := b.accept(false)
		for range 40 {
			synctest.Wait()
			l.queue.Publish("t", []byte("m"))
			p.puback(p.delivery("t", "m")) // read also answers pings
			<-time.After(5 * time.Second)
		}
		if st := l.Status(); !st.Connected || st.Published != 40 || st.Attempts != 0 {
			t.Errorf("status: %+v", st)
		}
		l.end(t, p)
	})
}
