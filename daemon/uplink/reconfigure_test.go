package uplink

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	realbroker "fieldpost/daemon/broker"
)

// reconfigured is the result of Reconfigure.
type reconfigured struct {
	reconnects []string
	err        error
}

// reconfigureTo calls Reconfigure on another goroutine.
func (r *running) reconfigureTo(ctx context.Context, c Config) <-chan reconfigured {
	done := make(chan reconfigured, 1)
	go func() {
		reconnects, err := r.Reconfigure(ctx, c)
		done <- reconfigured{reconnects, err}
	}()
	synctest.Wait()
	return done
}

// returned returns the result of Reconfigure, which must have returned.
func returned(t *testing.T, done <-chan reconfigured) reconfigured {
	t.Helper()
	synctest.Wait()
	select {
	case got := <-done:
		return got
	default:
		t.Fatal("Reconfigure has not returned")
		return reconfigured{}
	}
}

// stays checks that Reconfigure has returned and the connection has stayed.
func stays(t *testing.T, done <-chan reconfigured) {
	t.Helper()
	if got := returned(t, done); got.err != nil || got.reconnects != nil {
		t.Errorf("Reconfigure: %v, %v", got.reconnects, got.err)
	}
}

func TestReconfigureSubscriptions(t *testing.T) {
	for _, clean := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(t)
			c := b.config()
			c.Clean = clean
			c.Subscriptions = []Subscription{{"stays", 1}, {"qos", 0}, {"goes", 1}}
			var down, ended []string
			c.Observe = func(s Status) {
				if !s.Connected {
					down = append(down, "down")
				}
			}
			l := run(t, c)
			p := b.accept(false)
			p.grant("stays", 1)
			p.grant("qos", 0)
			p.grant("goes", 1)
			synctest.Wait()
			down = nil
			l.queue.Publish("t", []byte("1"))
			id := p.delivery("t", "1")

			c.Subscriptions = []Subscription{{"comes", 1}, {"stays", 1}, {"qos", 1}}
			c.Unsubscribe, c.Unsubscribed = []string{"before"}, func(f string) { ended = append(ended, f) }
			done := l.reconfigureTo(t.Context(), c)
			l.queue.Publish("t", []byte("2"))
			p.quiet(5 * time.Second) // nothing until the window is empty
			p.puback(id)
			p.grant("comes", 1)
			p.grant("qos", 1)
			p.release("goes")
			if !clean {
				p.release("before")
			}
			stays(t, done)
			p.puback(p.delivery("t", "2"))
			p.publish("comes", "order", 1, 7, false)
			synctest.Wait()
			if m := <-l.Messages(); m.Topic != "comes" {
				t.Errorf("got %+v", m)
			}
			if !slices.Equal(ended, []string{"goes", "before"}) || down != nil {
				t.Errorf("clean %v: told of %q, %q", clean, ended, down)
			}
			p.hangUp()

			p = b.accept(!clean) // the next connection subscribes to the same, and ends nothing
			p.grant("comes", 1)
			p.grant("stays", 1)
			p.grant("qos", 1)
			p.quiet(time.Minute)
			l.end(t, p)
		})
	}
}

// A denied subscription is retried, and is no longer reported when it is not wanted.
func TestReconfigureTriesAgainWhatIsDenied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := b.config()
		c.Subscriptions = []Subscription{{"no", 1}, {"never", 1}}
		l := run(t, c)
		p := b.accept(false)
		p.grant("no", 0x80)
		p.grant("never", 0x80)
		synctest.Wait()
		began := time.Now()
		done := l.reconfigureTo(t.Context(), c)
		p.grant("no", 1)
		p.grant("never", 0x80)
		stays(t, done)
		if d := time.Since(began); d > time.Second {
			t.Errorf("tried again after %v", d)
		}
		if st := l.Status(); !slices.Equal(st.Denied, []string{"never"}) {
			t.Errorf("denied: %v", st.Denied)
		}
		c.Subscriptions = c.Subscriptions[:1]
		done = l.reconfigureTo(t.Context(), c)
		p.release("never") // the session may still have it
		stays(t, done)
		if st := l.Status(); st.Denied != nil || !st.Connected {
			t.Errorf("status: %+v", st)
		}
		p.quiet(2 * time.Hour)
		l.end(t, p)
	})
}

// A denied topic is also retried at once.
func TestReconfigureTriesADeniedTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := b.config()
		l := run(t, c)
		sent := l.queue.Publish("bad", []byte("b"))
		for range 3 {
			p := b.accept(true)
			p.delivery("bad", "b")
			p.hangUp()
		}
		p := b.accept(true)
		p.quiet(30 * time.Second)
		began := time.Now()
		stays(t, l.reconfigureTo(t.Context(), c))
		p.puback(p.delivery("bad", "b"))
		synctest.Wait()
		if d := time.Since(began); d > time.Second || settled(sent) != "acknowledged" {
			t.Errorf("after %v the message is %q", d, settled(sent))
		}
		l.end(t, p)
	})
}

// A filter that was removed and comes back is subscribed to again, and one whose removal
// did not get done stays.
func TestReconfigureThereAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := orders(b)
		l := runWaiting(t, c, func(below time.Duration) time.Duration { return below - 1 })
		p := b.accept(false)
		p.grant("orders", 1)
		synctest.Wait()
		other := c
		other.Subscriptions = []Subscription{{"other", 1}}
		done := l.reconfigureTo(t.Context(), other)
		p.grant("other", 1)
		p.release("orders")
		stays(t, done)
		done = l.reconfigureTo(t.Context(), c)
		p.grant("orders", 1)
		p.release("other")
		stays(t, done)
		p.hangUp()
		synctest.Wait()
		done = l.reconfigureTo(t.Context(), other)
		b.peer().hangUp() // before any UNSUBSCRIBE
		stays(t, done)
		synctest.Wait()
		done = l.reconfigureTo(t.Context(), c)
		p = b.accept(true)
		p.grant("orders", 1)
		p.release("other")
		stays(t, done)
		p.quiet(time.Minute)
		l.end(t, p)
	})
}

// When Reconfigure has returned, no messages of the old connection are handled, nor of
// the old session if another one begins.
func TestReconfigureLeavesNothingBehind(t *testing.T) {
	for setting, want := range map[string][]string{"keep_alive": {"at QoS 0"}, "clean session": nil} {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(t)
			c := orders(b)
			l := run(t, c)
			p := b.accept(false)
			p.grant("orders", 1)
			p.publish("orders", "begun", 1, 1, false)
			synctest.Wait()
			begun := <-l.Messages()
			p.publish("orders", "at QoS 1", 1, 2, false)
			p.publish("orders", "at QoS 0", 0, 0, false)
			synctest.Wait()
			if c.Clean = setting == "clean session"; !c.Clean {
				c.KeepAlive = time.Minute
			}
			reconnects, err := l.Reconfigure(t.Context(), c)
			if err != nil || !slices.Equal(reconnects, []string{setting}) || !begun.Lost() {
				t.Errorf("got %v, %v; the message that was begun is lost: %v", reconnects, err, begun.Lost())
			}
			if got := l.received(); !slices.Equal(got, want) {
				t.Errorf("%s: received %q", setting, got)
			}
			p = b.accept(!c.Clean)
			p.grant("orders", 1)
			l.end(t, p)
		})
	}
}

// A change from a clean session to a persistent one does not count as a lost session.
func TestReconfigureToASession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := orders(b)
		c.Clean = true
		l := run(t, c)
		p := b.accept(false)
		p.grant("orders", 1)
		synctest.Wait()
		c.Clean = false
		done := l.reconfigureTo(t.Context(), c)
		expect[*packets.DisconnectPacket](p)
		for _, present := range []bool{false, true} {
			p = b.accept(present)
			p.grant("orders", 1)
			synctest.Wait()
			p.hangUp()
		}
		if got := returned(t, done); got.err != nil || !slices.Equal(got.reconnects, []string{"clean session"}) || l.Status().SessionsLost != 0 {
			t.Errorf("got %v, %+v", got, l.Status())
		}
		l.end(t, nil)
	})
}

// Of two concurrent configurations the last one counts.
func TestReconfigureTwiceAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := orders(b)
		l := run(t, c)
		p := b.accept(false)
		p.grant("orders", 1)
		l.queue.Publish("t", nil)
		id := p.delivery("t", "")
		other := c
		other.Subscriptions = []Subscription{{"other", 1}}
		first := l.reconfigureTo(t.Context(), other)
		last := l.reconfigureTo(t.Context(), c)
		p.puback(id)
		stays(t, first)
		stays(t, last)
		p.quiet(time.Minute)
		l.end(t, p)
	})
}

// When the topic of the echo changes, so does the receiver of messages on it.
func TestReconfigureEcho(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := listening(b)
		l := run(t, c)
		p := b.accept(false)
		p.asksFor("t", 0)
		l.says(p, "lost", false)

		p.givesUp("t")
		if l.Status().Undelivered != "t" {
			t.Errorf("status: %+v", l.Status())
		}

		c.Echo.Topic = "new"
		done := l.reconfigureTo(t.Context(), c)
		p.asksFor("new", 0)
		stays(t, done)
		if l.Status().Undelivered != "" {
			t.Errorf("of another topic: %+v", l.Status())
		}
		p.publish("new", "ours", 0, 0, false)
		p.publish("t", "for us", 0, 0, false)
		synctest.Wait()
		if got := l.received(); !slices.Equal(got, []string{"for us"}) {
			t.Errorf("received %q", got)
		}

		c.Subscriptions = []Subscription{{"new", 1}} // includes the topic
		done = l.reconfigureTo(t.Context(), c)
		p.givesUp("new")
		p.grant("new", 1)
		stays(t, done)
		p.publish("new", "for us too", 0, 0, false)
		synctest.Wait()
		if got := l.received(); !slices.Equal(got, []string{"for us too"}) {
			t.Errorf("received %q", got)
		}

		c.Echo = Echo{}
		done = l.reconfigureTo(t.Context(), c)
		stays(t, done)
		p.quiet(time.Minute)
		l.end(t, p)
	})
}

// rewound counts how often an outbox is rewound.
type rewound struct {
	*Queue
	times int
}

func (r *rewound) Rewind() {
	r.times++
	r.Queue.Rewind()
}

// Limits, window, payload, farewell and outbox change on the open connection.
func TestReconfigureTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := orders(b)
		l := run(t, c)
		p := b.accept(false)
		p.grant("orders", 1)
		l.queue.Publish("t", []byte("left in the old outbox"))
		p.puback(p.delivery("t", "left in the old outbox"))

		next := &rewound{Queue: NewQueue()}
		c.Outbox, c.Limits, c.Window, c.MaxPayload = next, LimitsAWS, 1, 2000
		c.Farewell = func() Publication { return Publication{Topic: "t", Payload: []byte("bye")} }
		stays(t, l.reconfigureTo(t.Context(), c))
		if next.times != 1 {
			t.Errorf("the new outbox was rewound %d times", next.times)
		}
		next.Publish("t", []byte("1"))
		next.Publish("t", []byte("2"))
		id := p.delivery("t", "1")
		p.quiet(5 * time.Second) // a window of one
		p.puback(id)
		p.puback(p.delivery("t", "2"))
		p.publish("orders", strings.Repeat("x", 2001), 0, 0, false)
		synctest.Wait()
		if m := <-l.Messages(); !m.Truncated() {
			t.Errorf("%d bytes of %d are kept", len(m.Payload), m.Size)
		}
		l.cancel()
		p.puback(p.delivery("t", "bye"))
		must(t, <-l.ended)
		if !l.rate.aws { // the link does not use it now
			t.Error("the limits are those of before")
		}
	})
}

// Some settings need a new connection, and are returned. No will is published.
func TestReconfigureConnectsAnew(t *testing.T) {
	for name, set := range map[string]func(b *broker, c *Config){
		"endpoint":      func(b *broker, c *Config) { c.Endpoint = "other.test:8883" },
		"client_id":     func(b *broker, c *Config) { c.ClientID = "other" },
		"credentials":   func(b *broker, c *Config) { c.Certificate, c.Key = b.file("cert2.pem"), b.file("key2.pem") },
		"keep_alive":    func(b *broker, c *Config) { c.KeepAlive = time.Minute },
		"clean session": func(b *broker, c *Config) { c.Clean = true },
		"will":          func(b *broker, c *Config) { c.Will = &Publication{Topic: "w", Payload: []byte("lost")} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { checkConnectsAnew(t, name, set) })
		})
	}
}

func checkConnectsAnew(t *testing.T, setting string, set func(b *broker, c *Config)) {
	b := newBroker(t)
	cert, key := b.ca.Issue("renewed", nil)
	put(t, b.file("cert2.pem"), cert)
	put(t, b.file("key2.pem"), key)
	b.serve(b.ca.Issue(brokerName, func(c *x509.Certificate) { c.DNSNames = append(c.DNSNames, "other.test") }))
	c := orders(b)
	var dialed []string
	c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		dialed = append(dialed, address)
		return b.dial(ctx, network, address)
	}
	l := run(t, c)
	p := b.accept(false)
	p.grant("orders", 1)
	sent := l.queue.Publish("t", []byte("1"))
	id := p.delivery("t", "1")
	set(b, &c)
	c.Subscriptions = []Subscription{{"other", 1}}
	done := l.reconfigureTo(t.Context(), c)
	p.puback(id)
	expect[*packets.DisconnectPacket](p)
	p = b.peer()
	if got := returned(t, done); got.err != nil || !slices.Equal(got.reconnects, []string{setting}) {
		t.Errorf("Reconfigure: %v, %v", got.reconnects, got.err)
	}
	connect := expect[*packets.ConnectPacket](p)
	p.connack(0, false)
	p.grant("other", 1)
	switch setting {
	case "endpoint", "client_id", "clean session": // a session without the old subscriptions
	default:
		p.release("orders")
	}
	p.quiet(time.Minute)
	st := l.Status()
	seen := map[string]string{
		"endpoint": dialed[1], "client_id": connect.ClientIdentifier, "credentials": p.conn.ConnectionState().PeerCertificates[0].Subject.CommonName,
		"keep_alive": time.Duration(time.Second * time.Duration(connect.Keepalive)).String(), "will": string(connect.WillMessage),
	}
	want := map[string]string{"endpoint": "other.test:8883", "client_id": "other", "credentials": "renewed", "keep_alive": "1m0s", "will": "lost"}
	if seen[setting] != want[setting] || connect.CleanSession != c.Clean || settled(sent) != "acknowledged" {
		t.Errorf("%q and clean %v; the message is %q", seen[setting], connect.CleanSession, settled(sent))
	}
	if !st.Connected || st.Err != nil || st.Endpoint != c.Endpoint || st.ClientID != c.ClientID || st.SessionsLost != 0 {
		t.Errorf("status: %+v", st)
	}
	l.end(t, p)
}

// If the link waits, it connects at once with the new configuration, and removes what an
// earlier connection left in the session.
func TestReconfigureWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := orders(b)
		l := runWaiting(t, c, func(below time.Duration) time.Duration { return below - 1 })
		p := b.accept(false)
		p.grant("orders", 1)
		synctest.Wait()
		p.hangUp()
		for range 5 { // until the wait is long
			b.peer().hangUp()
		}
		synctest.Wait()
		began := time.Now()
		c.Subscriptions = []Subscription{{"other", 1}}
		done := l.reconfigureTo(t.Context(), c)
		p = b.accept(true)
		stays(t, done)
		p.grant("other", 1)
		p.release("orders")
		if d := time.Since(began); d > 2*time.Second {
			t.Errorf("connected after %v", d)
		}
		l.end(t, p)
	})
}

// An invalid configuration changes nothing.
func TestReconfigureRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := orders(b)
		l := run(t, c)
		p := b.accept(false)
		p.grant("orders", 1)
		for want, set := range map[string]func(*Config){
			`filter "a#" may have # only`: func(c *Config) { c.Subscriptions = []Subscription{{"a#", 1}} },
			"client id: want":             func(c *Config) { c.ClientID = "" },
			"endpoint":                    func(c *Config) { c.Endpoint = "mqtts://x" },
			"outbox: want":                func(c *Config) { c.Outbox = nil },
			"credentials: want":           func(c *Config) { c.Key = "" },
		} {
			bad := c
			set(&bad)
			if reconnects, err := l.Reconfigure(t.Context(), bad); err == nil || !strings.Contains(err.Error(), want) || reconnects != nil {
				t.Errorf("%v, %v; want %q", reconnects, err, want)
			}
		}
		p.quiet(time.Minute)
		l.end(t, p)
	})
}

// If the broker hangs up on the new requests, or does not answer, the link reconnects
// with the new configuration.
func TestReconfigureUnanswered(t *testing.T) {
	for _, silent := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(t)
			c := orders(b)
			l := run(t, c)
			p := b.accept(false)
			p.grant("orders", 1)
			synctest.Wait()
			c.Subscriptions = []Subscription{{"other", 1}}
			done := l.reconfigureTo(t.Context(), c)
			expect[*packets.SubscribePacket](p)
			if synctest.Wait(); len(done) > 0 {
				t.Error("Reconfigure does not wait for the broker's answer")
			}
			if silent {
				p.gone()
			} else {
				p.hangUp()
			}
			stays(t, done)
			p = b.accept(true)
			p.grant("other", 1)
			p.release("orders")
			p.quiet(time.Minute)
			l.end(t, p)
		})
	}
}

// A caller that stops waiting gets ctx's error, but the link still uses the
// configuration.
func TestReconfigureIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := orders(b)
		l := run(t, c)
		p := b.accept(false)
		p.grant("orders", 1)
		l.queue.Publish("t", nil)
		id := p.delivery("t", "")
		c.Subscriptions = nil
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		done := l.reconfigureTo(ctx, c)
		p.quiet(2 * time.Second)
		if got := returned(t, done); !errors.Is(got.err, context.DeadlineExceeded) {
			t.Errorf("got %v", got.err)
		}
		p.puback(id)
		p.release("orders")
		l.end(t, p)
	})
}

// A stop does not wait for Reconfigure, nor Reconfigure for the stop.
func TestEndDuringReconfigure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := orders(b)
		l := run(t, c)
		p := b.accept(false)
		p.grant("orders", 1)
		c.Subscriptions = []Subscription{{"other", 1}}
		done := l.reconfigureTo(t.Context(), c)
		expect[*packets.SubscribePacket](p)
		l.cancel()
		expect[*packets.DisconnectPacket](p)
		must(t, <-l.ended)
		stays(t, done)

		c = orders(b)
		l = run(t, c)
		p = b.accept(false)
		p.grant("orders", 1)
		synctest.Wait()
		c.KeepAlive = time.Minute
		done = l.reconfigureTo(t.Context(), c)
		expect[*packets.DisconnectPacket](p)
		l.cancel()
		must(t, <-l.ended)
		if got := returned(t, done); got.err != nil || !slices.Equal(got.reconnects, []string{"keep_alive"}) {
			t.Errorf("Reconfigure: %v, %v", got.reconnects, got.err)
		}
	})
}

// With the embedded broker, over TCP and TLS, the connection stays while the topic of
// orders changes during a backlog, and neither readings nor orders are lost.
func TestReconfigureWithARealBroker(t *testing.T) {
	b, err := realbroker.New(realbroker.Options{Dir: t.TempDir()})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- b.Run(ctx) }()
	defer func() {
		cancel()
		must(t, <-served)
	}()
	files := b.Files()
	up, lost := make(chan bool, 1), make(chan bool, 100)
	config := func(id string, filters ...string) Config {
		c := Config{Endpoint: b.Addr(), ClientID: id, CA: files.CA, Certificate: files.Certificate, Key: files.Key, Outbox: NewQueue()}
		for _, f := range filters {
			c.Subscriptions = append(c.Subscriptions, Subscription{f, 1})
		}
		return c
	}
	c := config("board", "old", "stays")
	stood := false
	c.Observe = func(s Status) {
		if s.Connected && !stood {
			stood = true
			up <- true
		}
		if !s.Connected && stood {
			lost <- true
		}
	}
	board, sender := run(t, c), run(t, config("sender"))
	<-up
	next := func(topic string) {
		t.Helper()
		m := <-board.Messages()
		m.Ack()
		if m.Topic != topic {
			t.Errorf("got a message on %q, want %q", m.Topic, topic)
		}
	}
	tell := func(topic string) {
		t.Helper()
		must(t, <-sender.queue.Publish(topic, []byte("x")))
	}
	tell("old")
	next("old")
	var backlog []<-chan error
	for range 500 {
		backlog = append(backlog, board.queue.Publish("readings", make([]byte, 1000)))
	}
	c.Subscriptions = []Subscription{{"stays", 1}, {"new", 1}}
	reconnects, err := board.Reconfigure(t.Context(), c)
	if err != nil || reconnects != nil {
		t.Fatalf("Reconfigure: %v, %v", reconnects, err)
	}
	tell("old") // received by nobody
	tell("new")
	next("new")
	tell("stays")
	next("stays")
	for _, done := range backlog {
		must(t, <-done)
	}
	if len(lost) > 0 {
		t.Error("the connection was lost")
	}
	c.KeepAlive = time.Minute
	if reconnects, err := board.Reconfigure(t.Context(), c); err != nil || !slices.Equal(reconnects, []string{"keep_alive"}) {
		t.Errorf("Reconfigure: %v, %v", reconnects, err)
	}
	tell("new") // kept in the session or delivered
	next("new")
	board.end(t, nil)
	sender.end(t, nil)
}

// A connection that ends while a new configuration waits for its window to empty is followed by
// one with that configuration at once, and not after the wait that earlier failures have made
// long.
func TestReconfigureWhenTheConnectionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := b.config()
		l := runWaiting(t, c, func(below time.Duration) time.Duration { return below })
		for range 6 {
			p := b.peer()
			expect[*packets.ConnectPacket](p)
			p.hangUp()
		}
		p := b.accept(true)
		l.queue.Publish("t", []byte("1"))
		p.delivery("t", "1")
		c.Subscriptions = []Subscription{{"orders", 1}}
		done := l.reconfigureTo(t.Context(), c)
		p.hangUp()
		began := time.Now()
		p = b.accept(true)
		p.grant("orders", 1)
		if took := time.Since(began); took > 2*backoffMin {
			t.Errorf("the next connection came after %v", took)
		}
		must(t, returned(t, done).err)
		l.end(t, p)
	})
}
