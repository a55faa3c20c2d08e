package daemon_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon/api"
	"fieldpost/daemon/client"
	"fieldpost/daemon/config"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/systemd"
	"fieldpost/daemon/uplink"
)

// placedConfig is a configuration whose name, client id and topic of orders are given;
// without a topic it has no commands.
func placedConfig(s *daemontest.Site, thing, clientID, orders string) *config.Config {
	s.T.Helper()
	text := fmt.Sprintf("thing: %s\nbroker: {endpoint: %s, client_id: %s}\nreadings: {topic: field/readings}\n"+
		"spool: {dir: spool}\noutputs:\n  - {name: pump, pin: GPIO27, active_low: true, initial: off, safe: off}\n", thing, s.Addr, clientID)
	if orders != "" {
		text += fmt.Sprintf("commands: {topic: '%s', answers: field/answers}\n", orders)
	}
	path := filepath.Join(s.Dir, "fieldpost.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.T.Fatal(err)
	}
	cfg, err := config.Load(path)
	if err != nil {
		s.T.Fatal(err)
	}
	return cfg
}

// senderTo gives a function that publishes to any topic and waits for the PUBACK.
func senderTo(s *daemontest.Site, id string) func(topic, payload string) {
	s.T.Helper()
	q := uplink.NewQueue()
	l, err := uplink.New(uplink.Config{
		Endpoint: s.Addr, ClientID: id, CA: s.Files.CA, Certificate: s.Files.Certificate, Key: s.Files.Key, Outbox: q,
	})
	if err != nil {
		s.T.Fatal(err)
	}
	daemontest.Background(s.T, l.Run)
	return func(topic, payload string) {
		s.T.Helper()
		select {
		case err := <-q.Publish(topic, []byte(payload)):
			if err != nil {
				s.T.Fatal(err)
			}
		case <-time.After(daemontest.Patience):
			s.T.Fatal("no acknowledgement")
		}
	}
}

// forAnybody is an order that names no thing.
func forAnybody(id string) string {
	return fmt.Sprintf(`{"id":%q,"output":"pump","action":"on","expires":%q}`, id, time.Now().Add(time.Minute).UTC().Format(time.RFC3339))
}

// move is a configuration, the next one of the same board, and what the broker's
// session keeps of the first.
type move struct {
	thing, client, topic string // before
	next                 string // the thing's name afterwards
	to                   string // the topic of orders afterwards, "" for none
	was                  string // where orders went before
}

var moves = map[string]move{
	"another topic":    {"west", "board-1", "old/orders", "west", "new/orders", "old/orders"},
	"commands removed": {"west", "board-1", "old/orders", "west", "", "old/orders"},
	"thing renamed":    {"east", "board-1", "field/{thing}/orders", "west", "field/{thing}/orders", "field/east/orders"},
}

// try runs the board with one configuration and then with the other, and sends an
// order to where orders went before.
func (m move) try(t *testing.T, s *daemontest.Site) {
	say := senderTo(s, "test-mouth")
	first, socket := s.StartWithSocket(placedConfig(s, m.thing, m.client, m.topic))
	before := daemontest.AwaitStatus(t, socket, "link", func(r api.Status) bool { return r.Link.Connected })
	if before.Orders.Topic != m.was {
		t.Fatalf("orders on %q, want %q", before.Orders.Topic, m.was)
	}
	say(m.was, forAnybody("c-0"))
	daemontest.AwaitStatus(t, socket, "order done", func(r api.Status) bool { return r.Orders.Done == 1 })
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	say(m.was, forAnybody("c-1")) // kept for the session

	cfg := placedConfig(s, m.next, m.client, m.to)
	_, socket = s.StartWithSocket(cfg)
	r := daemontest.AwaitStatus(t, socket, "stray message", func(r api.Status) bool { return r.Orders.Elsewhere == 1 })
	if r.Orders.Done != 0 || r.Orders.Refused != 0 || r.Outputs[0].State != "off" || r.Orders.Topic != cfg.CommandsTopic() {
		t.Errorf("after the move: %+v, %+v; want the pump left alone", r.Orders, r.Outputs[0])
	}
	// It is given up, and no more of it comes.
	daemontest.AwaitStatus(t, socket, "end of the old subscription", func(api.Status) bool { return !sessionHolds(s, m.client, m.was) })
	say(m.was, forAnybody("c-2"))
	if m.to == "" {
		return
	}
	say(cfg.CommandsTopic(), forAnybody("c-1")) // its id was not used up
	r = daemontest.AwaitStatus(t, socket, "order done", func(r api.Status) bool { return r.Orders.Done == 1 && r.Outputs[0].State == "on" })
	if r.Orders.Elsewhere != 1 {
		t.Errorf("%d messages came on the old topic, want only the one of before", r.Orders.Elsewhere)
	}
}

// What an earlier configuration subscribed to acts no more. [CMD-18]
func TestOrdersOfAnEarlierConfiguration(t *testing.T) {
	for name, m := range moves {
		t.Run(name, func(t *testing.T) { m.try(t, daemontest.NewSite(t, nil)) })
		t.Run(name+" over mosquitto", func(t *testing.T) {
			s, _ := daemontest.NewMosquittoSite(t)
			m.try(t, s)
		})
	}
}

// What `fieldpost sub` prints is what its filter matches, whatever subscriptions the
// session has of earlier calls. The filter may have wildcards.
func TestSubscribePrintsWhatItsFilterMatches(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	say := senderTo(s, "test-mouth")
	// listen subscribes until one message was printed; it publishes until then.
	listen := func(filter, topic string) string {
		var out bytes.Buffer
		ended := make(chan error, 1)
		go func() {
			ended <- client.Subscribe(context.Background(), client.SubscribeOptions{
				Account: client.Account{Endpoint: s.Addr, CA: s.Files.CA, Certificate: s.Files.Certificate, Key: s.Files.Key, ClientID: "test-sub"},
				Topic:   filter, Count: 1, Out: &out, Log: daemontest.Log(t),
			})
		}()
		again := time.NewTicker(10 * time.Millisecond)
		defer again.Stop()
		for {
			say(topic, "hello")
			select {
			case err := <-ended:
				if err != nil {
					t.Fatal(err)
				}
				return out.String()
			case <-again.C:
			}
		}
	}
	if got := listen("old/#", "old/orders"); got != "old/orders: hello\n" {
		t.Errorf("printed %q", got)
	}
	say("old/orders", "kept for the session")
	say("old", "kept for the session")
	if got := listen("new/+", "new/orders"); got != "new/orders: hello\n" {
		t.Errorf("printed %q, want only what new/+ matches", got)
	}
}

// sessionHolds reports whether the file beside the spool says that a client id's session
// may hold a filter.
func sessionHolds(s *daemontest.Site, client, filter string) bool {
	s.T.Helper()
	b, err := os.ReadFile(filepath.Join(s.Dir, "spool", "subscriptions.journal"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.T.Fatal(err)
	}
	return regexp.MustCompile(`"client_id":"` + regexp.QuoteMeta(client) + `","filters":\[[^]]*"` + regexp.QuoteMeta(filter) + `"`).Match(b)
}

// A session of another client id keeps its filters, and gives them up when that
// client id is used again.
func TestClientIDIsChangedAndBack(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	say := senderTo(s, "test-mouth")
	run := func(client, topic string, ok func(api.Status) bool) {
		t.Helper()
		r, socket := s.StartWithSocket(placedConfig(s, "west", client, topic))
		daemontest.AwaitStatus(t, socket, client+" on "+topic, func(r api.Status) bool { return r.Link.Connected && ok(r) })
		if err := r.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	run("board-1", "old/orders", func(api.Status) bool { return sessionHolds(s, "board-1", "old/orders") })
	run("board-2", "new/orders", func(api.Status) bool { return sessionHolds(s, "board-2", "new/orders") })
	if !sessionHolds(s, "board-1", "old/orders") {
		t.Error("the first session is forgotten")
	}
	say("old/orders", forAnybody("c-1"))
	run("board-1", "new/orders", func(r api.Status) bool {
		return r.Orders.Elsewhere == 1 && r.Outputs[0].State == "off" && !sessionHolds(s, "board-1", "old/orders")
	})
	say("old/orders", forAnybody("c-2"))
	say("new/orders", forAnybody("c-3"))
	run("board-1", "new/orders", func(r api.Status) bool { return r.Orders.Done == 1 && r.Orders.Elsewhere == 0 })
}

// A file that is damaged, missing or of somebody else costs nothing but the giving up.
func TestSubscriptionsAreForgotten(t *testing.T) {
	for name, harm := range map[string]func(path string) error{
		"missing":     os.Remove,
		"damaged":     func(path string) error { return os.WriteFile(path, bytes.Repeat([]byte("x"), 100), 0o600) },
		"empty":       func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"a directory": func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
	} {
		t.Run(name, func(t *testing.T) {
			s := daemontest.NewSite(t, nil)
			say := senderTo(s, "test-mouth")
			first, socket := s.StartWithSocket(placedConfig(s, "west", "board-1", "old/orders"))
			daemontest.AwaitStatus(t, socket, "link", func(r api.Status) bool { return r.Link.Connected && sessionHolds(s, "board-1", "old/orders") })
			if err := first.Stop(); err != nil {
				t.Fatal(err)
			}
			if err := harm(filepath.Join(s.Dir, "spool", "subscriptions.journal")); err != nil {
				t.Fatal(err)
			}
			_, socket = s.StartWithSocket(placedConfig(s, "west", "board-1", "new/orders"))
			daemontest.AwaitStatus(t, socket, "link", func(r api.Status) bool { return r.Link.Connected })
			say("old/orders", forAnybody("c-1"))
			say("new/orders", forAnybody("c-2"))
			r := daemontest.AwaitStatus(t, socket, "order done", func(r api.Status) bool { return r.Orders.Done == 1 && r.Orders.Elsewhere == 1 })
			if len(r.Faults) > 0 {
				t.Errorf("faults: %+v", r.Faults)
			}
		})
	}
}

// A message that is too large to be printed is told, and the next one is printed.
func TestSubscribeToLargeMessages(t *testing.T) {
	s, m := daemontest.NewMosquittoSite(t)
	var log, out bytes.Buffer
	subscribe := func(count int) error {
		return client.Subscribe(context.Background(), client.SubscribeOptions{
			Account: client.Account{Endpoint: s.Addr, CA: s.Files.CA, Certificate: s.Files.Certificate, Key: s.Files.Key, ClientID: "test-sub"},
			Topic:   "test/#", QoS: 1, Count: count, Wait: 2 * daemontest.Patience, Out: &out, Log: slog.New(systemd.NewLogger(&log, slog.LevelInfo).Handler()),
		})
	}
	ended := make(chan error, 1)
	go func() { ended <- subscribe(1) }()
	say := publishLarge(m)
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for up := false; !up; {
		say("test/a", "hello") // some may stay for the session
		select {
		case err := <-ended:
			if err != nil {
				t.Fatal(err)
			}
			up = true
		case <-again.C:
		}
	}
	say("test/a", "the last")
	for !strings.Contains(out.String(), "the last") {
		if err := subscribe(1); err != nil {
			t.Fatal(err)
		}
	}
	say("test/a", strings.Repeat("x", 2<<20))
	say("test/a", strings.Repeat("y", 1<<20))
	out.Reset()
	if err := subscribe(1); err != nil {
		t.Fatal(err)
	}
	if out.Len() < 1<<20 || !strings.Contains(log.String(), "too large to print") || strings.Contains(log.String(), "xxx") {
		t.Errorf("printed %d bytes, said %s", out.Len(), log.String())
	}
}

// Without outputs no order comes by MQTT, though a topic is named. [CMD-18]
func TestOrdersWithoutOutputs(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	say := senderTo(s, "test-mouth")
	first, socket := s.StartWithSocket(placedConfig(s, "west", "board-1", "field/orders"))
	daemontest.AwaitStatus(t, socket, "link", func(r api.Status) bool { return r.Link.Connected && sessionHolds(s, "board-1", "field/orders") })
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	say("field/orders", forAnybody("c-1"))
	cfg := placedConfig(s, "west", "board-1", "field/orders")
	cfg.Outputs = nil
	_, socket = s.StartWithSocket(cfg)
	daemontest.AwaitStatus(t, socket, "end of the subscription", func(r api.Status) bool {
		return r.Orders.Elsewhere == 1 && r.Orders.Topic == "" && r.Orders.Refused == 0 && !sessionHolds(s, "board-1", "field/orders")
	})
}
