package daemon_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/client"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/uplink"
)

// The end is in order: the pump safe, that told, then offline, then nothing.
func TestShutdownIsInOrder(t *testing.T) {
	s := daemontest.NewSite(t, awsiot.Tutorial())
	heard := s.Listen("test-ear")
	r := s.Start(s.Config("", "")).AwaitLink(t)
	say := s.Publisher("test-mouth")
	say(daemontest.Order("c-1", "on", time.Minute))
	daemontest.Await(t, "answer", heard, daemontest.Has("kind", "answer")) // the order may come to us after it
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	said := daemontest.Await(t, "event of the stop", heard, func(m map[string]any) bool {
		return m["kind"] == "event" && m["id"] != "c-1" || m["state"] == "offline" // that of the order follows its answer
	})
	if said["cause"] != "stop" || said["output"] != "pump" || said["state"] != "off" {
		t.Errorf("heard %v first, want the pump's event", said)
	}
	daemontest.Await(t, "offline", heard, daemontest.Has("state", "offline"))
	// An order that comes too late is the next run's, or nobody's.
	say(daemontest.Order("c-2", "on", time.Minute))
	daemontest.Await(t, "our own order", heard, daemontest.Has("id", "c-2"))
	if len(heard) > 0 {
		t.Errorf("after offline there came %v", <-heard)
	}
	h := s.Board.Line("GPIO27").History()
	last, before := h[len(h)-1], h[len(h)-2]
	if last.Driven || !before.Driven || !before.High {
		t.Errorf("history ends %+v, %+v; want driven to off, which is high, then released", before, last)
	}
}

// What a person sends: done, refused, sent without waiting.
func TestSendOrder(t *testing.T) {
	s := daemontest.NewSite(t, awsiot.Tutorial())
	cfg := s.Config("", "")
	s.Start(cfg).AwaitLink(t)
	log := slog.New(slog.DiscardHandler)
	ctx := context.Background()
	a, id, err := client.SendOrder(ctx, cfg, "test-send", client.OrderRequest{Output: "pump", Action: "on", For: time.Minute, Life: time.Minute}, daemontest.Patience, log)
	if err != nil || a.Status != "done" || a.State != "on" || a.ID != id || id == "" {
		t.Errorf("on: %v %q %v", a, id, err)
	}
	a, _, err = client.SendOrder(ctx, cfg, "test-send", client.OrderRequest{Output: "heater", Action: "on", Life: time.Minute}, daemontest.Patience, log)
	if err != nil || a.Status != "refused" || a.Reason == "" || a.Hint == "" || !strings.Contains(client.AnswerText(a), a.Hint) {
		t.Errorf("unknown output: %v %v", a, err)
	}
	_, id, err = client.SendOrder(ctx, cfg, "test-send", client.OrderRequest{Output: "pump", Action: "off", Life: time.Minute}, 0, log)
	if err != nil || id == "" {
		t.Errorf("without waiting: %q %v", id, err)
	}
	_, _, err = client.SendOrder(ctx, cfg, "not-allowed", client.OrderRequest{Output: "pump", Action: "off", Life: time.Minute}, 0, log)
	var why *uplink.Explained
	if !errors.As(err, &why) || why.Code != "connect_refused" || !strings.Contains(why.Hint, "iot:Connect") {
		t.Errorf("client id that is not allowed: %v", err)
	}
}

// Nobody answers: the id is named, so that a person can look for it.
func TestSendOrderNobodyAnswers(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	cfg := s.Config("", "")
	_, id, err := client.SendOrder(context.Background(), cfg, "test-send", client.OrderRequest{Output: "pump", Action: "on", Life: time.Minute}, time.Second, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "no answer came") || !strings.Contains(err.Error(), id) {
		t.Errorf("got %v for %q", err, id)
	}
	cfg.Commands.Topic, cfg.Commands.Answers = "", ""
	if _, err := client.NewOrderer(cfg, "test-send", nil); err == nil || !strings.Contains(err.Error(), "commands.topic") {
		t.Errorf("without a topic: %v", err)
	}
}

// The tutorial's two scripts, with each other. What a terminal would act on is
// quoted.
func TestPublishAndSubscribe(t *testing.T) {
	for message, want := range map[string]string{"hi": `test/topic: {"message":"hi [`, "hi\u202e\u009b": `test/topic: "{\"message\":\"hi\u202e\u009b [`} {
		publishAndSubscribe(t, message, want)
	}
}

func publishAndSubscribe(t *testing.T, message, want string) {
	t.Helper()
	s := daemontest.NewSite(t, awsiot.Tutorial())
	account := func(id string) client.Account {
		return client.Account{Endpoint: s.Addr, CA: s.Files.CA, Certificate: s.Files.Certificate, Key: s.Files.Key, ClientID: id}
	}
	var got bytes.Buffer
	listening := make(chan error, 1)
	go func() {
		listening <- client.Subscribe(context.Background(), client.SubscribeOptions{Account: account("test-sub"), Topic: "test/topic", Count: 5, Out: &got, Log: slog.New(slog.DiscardHandler)})
	}()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	talking := make(chan error, 1)
	go func() {
		talking <- client.Publish(ctx, client.PublishOptions{Account: account("test-pub"), Topic: "test/topic", Message: message, Every: 10 * time.Millisecond, Out: daemontest.LogWriter(t), Log: slog.New(slog.DiscardHandler)})
	}()
	for _, end := range []struct {
		name string
		ch   chan error
	}{{"subscriber", listening}, {"publisher", talking}} {
		select {
		case err := <-end.ch:
			if err != nil {
				t.Errorf("%s: %v", end.name, err)
			}
		case <-time.After(daemontest.Patience):
			t.Fatalf("%s did not end", end.name)
		}
		cancel() // the publisher ends by this, cleanly
	}
	if n := strings.Count(got.String(), want); n != 5 {
		t.Errorf("got %d messages, want 5:\n%s", n, got.String())
	}
}
