package interop

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fieldpost/daemon/broker"
	"fieldpost/daemon/client"
	"fieldpost/daemon/config"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/uplink"
)

// siteFor returns a board's configuration for a broker.
func siteFor(t *testing.T, endpoint, ca, cert, key string) *config.Config {
	t.Helper()
	return newPatient(t, endpoint, ca, cert, key).o.Config
}

// session uses the persistent session of a board over MQTT 3.1.1: it subscribes to the
// orders, or receives the waiting messages.
func session(t *testing.T, cfg *config.Config, subscribe bool) (got []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), daemontest.Patience)
	defer cancel()
	p, err := uplink.NewProbe(uplink.ProbeConfig{Endpoint: cfg.Endpoint(), ClientID: cfg.Broker.ClientID,
		CA: cfg.Broker.CA, Certificate: cfg.Broker.Certificate, Key: cfg.Broker.Key})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Dial(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Handshake(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Connect(ctx); err != nil {
		t.Fatal(err)
	}
	if subscribe {
		if err := p.Subscribe(ctx, uplink.Subscription{Filter: cfg.CommandsTopic(), QoS: 1}); err != nil {
			t.Fatal(err)
		}
		return nil
	}
	// Waiting messages come before the answer to a ping, or at once after it.
	if err := p.Ping(ctx); err != nil {
		t.Fatal(err)
	}
	soon, stop := context.WithTimeout(ctx, time.Second)
	defer stop()
	_ = p.Receive(soon, func(m uplink.Message) bool {
		got = append(got, string(m.Payload))
		return false
	})
	return got
}

// The broker drops an order that is not received before it expires, also from the session
// of a board over MQTT 3.1.1, and keeps one that has not expired.
func TestOrderExpiresAtTheBroker(t *testing.T) {
	for name, start := range map[string]func(t *testing.T) *config.Config{
		"stand-in": func(t *testing.T) *config.Config {
			b, err := broker.New(broker.Options{Dir: filepath.Join(t.TempDir(), "certs")})
			if err != nil {
				t.Fatal(err)
			}
			daemontest.Background(t, b.Run)
			f := b.Files()
			return siteFor(t, b.Addr(), f.CA, f.Certificate, f.Key)
		},
		"mosquitto": func(t *testing.T) *config.Config {
			m := daemontest.StartMosquitto(t)
			return siteFor(t, m.Addr, m.CA, m.Cert, m.Key)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := start(t)
			session(t, cfg, true)
			send := func(life time.Duration) string {
				t.Helper()
				_, id, err := client.SendOrder(t.Context(), cfg, "thing-1-send-0001", client.OrderRequest{Output: "pump", Action: "on", Life: life}, 0, slog.New(slog.DiscardHandler))
				if err != nil {
					t.Fatal(err)
				}
				return id
			}
			short, long := send(time.Second), send(time.Hour)
			over := time.NewTimer(3 * time.Second) // brokers count in seconds
			defer over.Stop()
			<-over.C
			got := strings.Join(session(t, cfg, false), "\n")
			if strings.Contains(got, short) || !strings.Contains(got, long) {
				t.Errorf("want %s and not %s; got %s", long, short, got)
			}
		})
	}
}

// If mosquitto says that nobody has subscribed, send does not wait for an answer.
func TestOrderWithoutSubscriber(t *testing.T) {
	m := daemontest.StartMosquitto(t)
	cfg := siteFor(t, m.Addr, m.CA, m.Cert, m.Key)
	cfg.Commands.Topic, cfg.Commands.Answers = "orders", "answers"
	_, id, err := client.SendOrder(t.Context(), cfg, "thing-1-send-0001", client.OrderRequest{Output: "pump", Action: "on", Life: time.Minute}, time.Hour, slog.New(slog.DiscardHandler))
	if id == "" || err == nil || !strings.Contains(err.Error(), "no client has subscribed") {
		t.Errorf("%q: %v", id, err)
	}
}

// A broker that only speaks MQTT 3.1.1 gets the order over that, however it refuses MQTT
// 5.
func TestSendFallsBack(t *testing.T) {
	for name, refusal := range map[string][]byte{
		"hangs up": {}, "CONNACK 1": {0x20, 2, 0, 1}, "CONNACK 132": {0x20, 3, 0, 132, 0}, "a PINGRESP": {0xd0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var over5, over3 atomic.Int32
			p := fake(t, nil, talk5(func(kind byte, _ []byte) []byte {
				if kind == 3 {
					over3.Add(1)
				}
				return nil
			}, func(byte, []byte) []byte {
				over5.Add(1)
				return refusal
			}))
			cfg := p.o.Config
			cfg.Broker.Endpoint = p.at
			_, id, err := client.SendOrder(t.Context(), cfg, "thing-1-send-0001", client.OrderRequest{Output: "pump", Action: "on", Life: time.Minute}, 0, slog.New(slog.DiscardHandler))
			if err != nil || id == "" || over5.Load() == 0 || over3.Load() != 1 {
				t.Errorf("%q, %v; asked over MQTT 5 %d times, published over 3.1.1 %d times", id, err, over5.Load(), over3.Load())
			}
		})
	}
}

// If a broker refuses the order over MQTT 5, send prints its reason and does not retry.
func TestSendRefused(t *testing.T) {
	p := embedded(t, denies("iot:Publish"), nil)
	_, _, err := client.SendOrder(t.Context(), p.o.Config, "thing-1-send-0001", client.OrderRequest{Output: "pump", Action: "on", Life: time.Minute}, time.Minute, slog.New(slog.DiscardHandler))
	var why *uplink.Explained
	var said *uplink.Reason
	if !errors.As(err, &why) || !errors.As(err, &said) || said.Code != 135 || !strings.Contains(why.Hint, "iot:Publish") {
		t.Errorf("%v", err)
	}
}
