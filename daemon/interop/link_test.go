package interop

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"fieldpost/daemon/broker"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/health"
	"fieldpost/daemon/uplink"
)

// linked is a running link with its queue and its statuses.
type linked struct {
	queue  *uplink.Queue
	link   *uplink.Link
	status chan uplink.Status
	stop   func() error
}

// connect runs a link to mosquitto. change may change its configuration.
func connect(m *daemontest.Mosquitto, id string, change func(c *uplink.Config), filters ...string) *linked {
	m.T.Helper()
	l := &linked{queue: uplink.NewQueue(), status: make(chan uplink.Status, 4096)}
	c := uplink.Config{
		Endpoint: m.Addr, ClientID: id, CA: m.CA, Certificate: m.Cert, Key: m.Key,
		Outbox: l.queue, Observe: func(s uplink.Status) { l.status <- s },
	}
	for _, f := range filters {
		c.Subscriptions = append(c.Subscriptions, uplink.Subscription{Filter: f, QoS: 1})
	}
	if change != nil {
		change(&c)
	}
	var err error
	if l.link, err = uplink.New(c); err != nil {
		m.T.Fatal(err)
	}
	l.stop = daemontest.Background(m.T, l.link.Run)
	return l
}

func (l *linked) connected(t testing.TB) uplink.Status {
	t.Helper()
	return daemontest.Await(t, "connection", l.status, func(s uplink.Status) bool { return s.Connected })
}

// fails waits for an explanation with this code.
func (l *linked) fails(t testing.TB, code health.Code) *uplink.Explained {
	t.Helper()
	var why *uplink.Explained
	daemontest.Await(t, string(code), l.status, func(s uplink.Status) bool {
		if s.Connected {
			t.Fatalf("connected, want %s", code)
		}
		return errors.As(s.Err, &why)
	})
	if why.Code != string(code) || why.Hint == "" {
		t.Fatalf("explained as %s (%v; %s), want %s", why.Code, why, why.Hint, code)
	}
	return why
}

// put queues numbered messages and returns their acknowledgements.
func (l *linked) put(topic string, from, to int) (acks []<-chan error) {
	for i := from; i < to; i++ {
		acks = append(acks, l.queue.Publish(topic, fmt.Appendf(nil, "%d", i)))
	}
	return acks
}

func settled(t testing.TB, acks []<-chan error) {
	t.Helper()
	end := time.After(daemontest.Patience)
	for i, ack := range acks {
		select {
		case err := <-ack:
			if err != nil {
				t.Fatalf("message %d: %v", i, err)
			}
		case <-end:
			t.Fatalf("message %d was never acknowledged", i)
		}
	}
}

// hear receives until exactly the messages with these numbers have come, and returns the
// first arrivals in their order.
func (l *linked) hear(t testing.TB, from, to int) (order []string) {
	t.Helper()
	seen := map[string]bool{}
	for len(seen) < to-from {
		m := daemontest.Await(t, fmt.Sprintf("message; %d of %d have come", len(seen), to-from), l.link.Messages(), func(uplink.Message) bool { return true })
		if !seen[string(m.Payload)] {
			seen[string(m.Payload)] = true
			order = append(order, string(m.Payload))
		}
		m.Ack()
	}
	for i := from; i < to; i++ {
		if !seen[fmt.Sprint(i)] {
			t.Fatalf("message %d has not come, but others: %v", i, order)
		}
	}
	return order
}

// Published messages reach an independent subscriber, once and in order.
func TestMosquittoDelivers(t *testing.T) {
	m := daemontest.StartMosquitto(t)
	sub := connect(m, "test-sub", nil, "test/#")
	sub.connected(t)
	pub := connect(m, "thing-1", nil)
	const n = 500
	acks := pub.put("test/topic", 0, n)
	for i, got := range sub.hear(t, 0, n) {
		if got != fmt.Sprint(i) {
			t.Fatalf("message %s came as number %d", got, i)
		}
	}
	settled(t, acks)
	if got := pub.link.Status(); got.Published != n || got.Attempts > 1 {
		t.Errorf("status %+v, want %d acknowledged on the first connection", got, n)
	}
	if !m.AwaitLog("as thing-1 (p2, c0, k30, u'fieldpost')") {
		t.Error("mosquitto did not see a persistent session, a keep-alive of 30 s and the certificate's name")
	}
	if err := pub.stop(); err != nil {
		t.Fatal(err)
	}
	if !m.AwaitLog("Received DISCONNECT from thing-1") {
		t.Error("the end was without a DISCONNECT")
	}
}

// The broker is restarted in between. Nothing is lost, and the subscriber's session
// continues.
func TestMosquittoRestarts(t *testing.T) {
	m := daemontest.StartMosquitto(t)
	sub := connect(m, "test-sub", nil, "test/#")
	if s := sub.connected(t); s.SessionPresent {
		t.Error("a session before the first")
	}
	pub := connect(m, "thing-1", nil)
	const n = 400
	acks := pub.put("test/topic", 0, n/2)
	settled(t, acks[:20]) // messages are flowing
	m.Stop()
	acks = append(acks, pub.put("test/topic", n/2, n)...)
	m.Start()
	sub.hear(t, 0, n)
	settled(t, acks[20:])
	if s := sub.connected(t); !s.SessionPresent {
		t.Errorf("the subscriber's state is %+v, want its session taken up", s)
	}
}

// The broker is killed and loses all sessions. Unacknowledged messages are sent again,
// and the subscription is made again.
func TestMosquittoKilled(t *testing.T) {
	m := daemontest.StartMosquitto(t)
	pub := connect(m, "thing-1", nil)
	settled(t, pub.put("test/elsewhere", 0, 1))
	sub := connect(m, "test-sub", nil, "test/topic")
	sub.connected(t)
	for round := range 2 {
		m.Kill()
		daemontest.Await(t, "loss of the link", sub.status, func(s uplink.Status) bool { return !s.Connected })
		daemontest.Await(t, "loss of the link", pub.status, func(s uplink.Status) bool { return !s.Connected })
		m.Start()
		if s := sub.connected(t); s.SessionPresent {
			t.Error("a killed broker remembers")
		}
		acks := pub.put("test/topic", round*50, round*50+50)
		settled(t, acks)
		sub.hear(t, round*50, round*50+50)
	}
}

// Messages that wait without a broker are sent when one starts.
func TestMosquittoComesLate(t *testing.T) {
	m := daemontest.StartMosquitto(t)
	m.Stop()
	pub := connect(m, "thing-1", nil)
	acks := pub.put("test/topic", 0, 30)
	pub.fails(t, health.NetworkDown)
	m.Start()
	settled(t, acks)
}

func TestMosquittoRefusesCredentials(t *testing.T) {
	m := daemontest.StartMosquitto(t)
	other, err := broker.Certificates(filepath.Join(t.TempDir(), "other"))
	if err != nil {
		t.Fatal(err)
	}
	t.Run("wrong CA", func(t *testing.T) {
		connect(m, "thing-1", func(c *uplink.Config) { c.CA = other.CA }).fails(t, health.ServerUntrusted)
	})
	t.Run("wrong certificate", func(t *testing.T) {
		// The first time, a reset may hide the alert, and may be the network's.
		l := connect(m, "thing-1", func(c *uplink.Config) { c.Certificate, c.Key = other.Certificate, other.Key })
		daemontest.Await(t, "word of the certificate", l.status, func(s uplink.Status) bool {
			var why *uplink.Explained
			if !errors.As(s.Err, &why) {
				return false
			}
			return why.Code == string(health.CertificateRejected)
		})
	})
	t.Run("key of another certificate", func(t *testing.T) {
		connect(m, "thing-1", func(c *uplink.Config) { c.Key = other.Key }).fails(t, health.CertificateUnusable)
	})
	t.Run("right ones", func(t *testing.T) {
		connect(m, "thing-1", nil).connected(t)
	})
}

// A denied subscription is left out and named. The other one works.
func TestMosquittoDeniesSubscription(t *testing.T) {
	m := daemontest.StartMosquitto(t, denying(t, "secret/topic")...)
	l := connect(m, "thing-1", nil, "secret/topic", "test/topic")
	s := daemontest.Await(t, "connection without the denied subscription", l.status, func(s uplink.Status) bool {
		return s.Connected && len(s.Denied) > 0
	})
	if len(s.Denied) != 1 || s.Denied[0] != "secret/topic" {
		t.Errorf("denied %v, want secret/topic", s.Denied)
	}
	settled(t, l.put("test/topic", 0, 10))
	l.hear(t, 0, 10)
}

// mosquitto acknowledges messages that its access list denies, and discards them, so its
// acknowledgement does not prove delivery. AWS IoT Core closes the connection instead.
func TestMosquittoAcknowledgesDiscarded(t *testing.T) {
	acl := filepath.Join(t.TempDir(), "acl")
	if err := os.WriteFile(acl, []byte("user fieldpost\ntopic readwrite test/#\ntopic read secret/#\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := daemontest.StartMosquitto(t, "acl_file "+acl)
	l := connect(m, "thing-1", nil, "secret/#", "test/#")
	l.connected(t)
	settled(t, l.put("secret/topic", 100, 105))
	settled(t, l.put("test/topic", 0, 5))
	l.hear(t, 0, 5) // fails if anything else has come
}

// Discarded messages do not come back to us, which the link detects; delivered ones do.
// The link's user gets neither.
func TestMosquittoDiscardIsDetected(t *testing.T) {
	acl := filepath.Join(t.TempDir(), "acl")
	if err := os.WriteFile(acl, []byte("user fieldpost\ntopic readwrite test/#\ntopic read secret/#\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := daemontest.StartMosquitto(t, "acl_file "+acl)
	verify := func(topic string) func(c *uplink.Config) {
		return func(c *uplink.Config) {
			c.Echo = uplink.Echo{Topic: topic, Subscribe: true, Within: time.Second}
		}
	}
	good := connect(m, "thing-1", verify("test/topic"))
	good.connected(t)
	settled(t, good.put("test/topic", 0, 5))
	if !m.AwaitLog("Received UNSUBSCRIBE from thing-1") {
		t.Error("what was delivered has not been found out")
	}
	bad := connect(m, "thing-2", verify("secret/topic"), "test/#")
	bad.connected(t)
	settled(t, bad.put("secret/topic", 100, 105))
	s := daemontest.Await(t, "word of what is thrown away", bad.status, func(s uplink.Status) bool { return s.Undelivered != "" })
	if s.Undelivered != "secret/topic" || !s.Connected || s.Err != nil || len(s.Denied) > 0 {
		t.Errorf("status %+v", s)
	}
	if !m.AwaitLog("Received UNSUBSCRIBE from thing-2") {
		t.Error("the subscription stays")
	}
	settled(t, bad.put("test/topic", 0, 5))
	bad.hear(t, 0, 5) // and nothing of secret/topic
	if s := good.link.Status(); s.Undelivered != "" || !s.Connected {
		t.Errorf("status of the other %+v", s)
	}
}

// denying returns lines of mosquitto's configuration with which the client fieldpost may
// do everything except subscribe to this filter.
func denying(t *testing.T, filter string) []string {
	t.Helper()
	plugins, err := filepath.Glob("/usr/lib/*/mosquitto_dynamic_security.so")
	if more, _ := filepath.Glob("/usr/lib/mosquitto_dynamic_security.so"); err == nil {
		plugins = append(plugins, more...)
	}
	if len(plugins) == 0 {
		if os.Getenv("FIELDPOST_REQUIRE_MOSQUITTO") == "1" {
			t.Fatal("FIELDPOST_REQUIRE_MOSQUITTO is set, but mosquitto_dynamic_security.so is not there")
		}
		t.Skip("NOT TESTED against mosquitto: mosquitto_dynamic_security.so is not there")
	}
	conf := filepath.Join(t.TempDir(), "security.json")
	text := fmt.Sprintf(`{
  "clients": [{"username": "fieldpost", "roles": [{"rolename": "most"}]}],
  "roles": [{"rolename": "most", "acls": [{"acltype": "subscribeLiteral", "topic": %q, "priority": 1, "allow": false}]}],
  "defaultACLAccess": {"publishClientSend": true, "publishClientReceive": true, "subscribe": true, "unsubscribe": true}
}`, filter)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"plugin " + plugins[0], "plugin_opt_config_file " + conf}
}
