package uplink

import (
	"strings"
	"testing"
	"time"
)

func TestNewChecksItsConfiguration(t *testing.T) {
	good := Config{Endpoint: "h:8883", ClientID: "c", CA: "a", Certificate: "b", Key: "k", Outbox: NewQueue()}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(*Config){
		`endpoint "a/b": want host or host:port`:       func(c *Config) { c.Endpoint = "a/b" },
		`endpoint ":1": want a host`:                   func(c *Config) { c.Endpoint = ":1" },
		"want a port":                                  func(c *Config) { c.Endpoint = "h:0" },
		`endpoint "h:mqtt": want a port of 1 to 65535`: func(c *Config) { c.Endpoint = "h:mqtt" },
		"client id: want 1 to":                         func(c *Config) { c.ClientID = "" },
		"client id: want 1 to 65535":                   func(c *Config) { c.ClientID = "a\x00" },
		"credentials: want":                            func(c *Config) { c.Key = "" },
		"keep-alive: want":                             func(c *Config) { c.KeepAlive = time.Millisecond },
		"keep-alive: want 1s to 65535s":                func(c *Config) { c.KeepAlive = 24 * time.Hour },
		"window: want 1 to 64 (got 65)":                func(c *Config) { c.Window = 65 },
		"window: want 1 to 64 (got -1)":                func(c *Config) { c.Window = -1 },
		"drain: want":                                  func(c *Config) { c.Drain = -1 },
		"outbox: want":                                 func(c *Config) { c.Outbox = nil },
		"will: want":                                   func(c *Config) { c.Will = &Publication{Topic: "#"} },
		"at most 65535 bytes (got 70000":               func(c *Config) { c.Will = &Publication{Topic: "t", Payload: make([]byte, 70000)} },
		`filter "a#" may have #`:                       func(c *Config) { c.Subscriptions = []Subscription{{"a#", 1}} },
		"at QoS 0 or 1 (got QoS 2)":                    func(c *Config) { c.Subscriptions = []Subscription{{"a", 2}} },
		`subscription "a": want it once`:               func(c *Config) { c.Subscriptions = []Subscription{{"a", 1}, {"a", 0}} },
	} {
		c := good
		spoil(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
