package uplink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"fieldpost/daemon/endpoint"
	"fieldpost/daemon/netwatch"
	"fieldpost/daemon/topic"
	"fieldpost/daemon/wake"
)

// Config says where to connect and as whom. The files are read again for every connection, so
// a renewed certificate needs no restart.
type Config struct {
	Endpoint    string // as [endpoint.Parse] reads it; port 443 uses ALPN x-amzn-mqtt-ca
	ClientID    string // MQTT client id
	CA          string // PEM file of root certificates
	Certificate string // PEM file of our certificate (chain)
	Key         string // PEM file of our private key
	// Files, if set, reads the credential files instead of the link, because others need them
	// too. Then the fields above are empty, and Files must run as long as the link does.
	Files     *CredentialFiles
	Access                  // what some brokers require in addition
	KeepAlive time.Duration // 0 is 30 s
	Clean     bool          // a clean session, for short-lived clients
	Limits    Limits        // "" is [LimitsAuto]

	Subscriptions []Subscription
	Echo          Echo // checks that a message of ours is delivered
	Leftovers          // of earlier configurations
	Outbox        Outbox
	// Will is what the broker publishes when it loses us; nil is none. It must not contain a
	// time, because it is written when we connect.
	Will *Publication
	// Farewell, if set, returns a last message at an orderly end. It is sent after the outbox
	// is empty and before the DISCONNECT.
	Farewell func() Publication

	// MaxPayload is the largest payload that is received, in bytes: 1 KiB to 4 MiB; 0 is 128
	// KiB. Only the beginning of a larger message is kept; see [Message].
	MaxPayload int

	Flow                   // what is in flight
	Observe   func(Status) // called on every change of Status, from Run's goroutine; must not block; may be nil
	Heartbeat func()       // called at least every few seconds while Run's goroutine makes progress; may be nil
	// HeartbeatWait may shorten the wait for the next heartbeat, but not to zero, so that it
	// comes together with those of other loops; may be nil.
	HeartbeatWait func(now time.Time, most time.Duration) time.Duration
	Log           *slog.Logger // nil discards

	// Ask asks the broker for a reason if it keeps closing the connection on the same request
	// without one; nil never asks.
	Ask Asker

	// Dial opens the TCP connection; nil is the operating system's. For tests.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// watchNetwork is [netwatch.Watch] or its replacement in tests; nil is none.
	watchNetwork func(context.Context, wake.Signal) error
}

// Leftovers are filters that a session may still hold from earlier configurations.
type Leftovers struct {
	// Unsubscribe are filters of earlier configurations that the session may hold. The link
	// unsubscribes from them on the first connection, once it is established. It ignores
	// those that are also in Subscriptions and those that are not valid filters.
	Unsubscribe []string
	// Unsubscribed is called for each of Unsubscribe that the session no longer holds, from
	// Run's goroutine. It must not block; may be nil.
	Unsubscribed func(filter string)
}

// Flow limits the messages in flight and says how their acknowledgements are awaited.
type Flow struct {
	Window int           // publishes in flight; 0 is 32, at most 64
	Drain  time.Duration // how long an orderly end waits for PUBACKs; 0 is 5 s
	// AckDelay is how late the Outbox may hear about a PUBACK that nothing depends on, so
	// that Run's goroutine need not wake up for each one; 0: no delay. There is no delay if
	// nothing else is in flight, if a message is urgent, or if the window is full.
	AckDelay time.Duration
}

const (
	defaultKeepAlive = 30 * time.Second
	defaultWindow    = 32
	maxWindow        = 64
	defaultDrain     = 5 * time.Second
)

// withDefaults fills in the defaults of empty fields.
func (c Config) withDefaults() Config {
	if c.KeepAlive == 0 {
		c.KeepAlive = defaultKeepAlive
	}
	if c.MaxPayload == 0 {
		c.MaxPayload = defaultMaxPayload
	}
	if c.Window == 0 {
		c.Window = defaultWindow
	}
	if c.Echo.Within == 0 {
		c.Echo.Within = defaultEchoWithin
	}
	if c.Drain == 0 {
		c.Drain = defaultDrain
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Observe == nil {
		c.Observe = func(Status) {}
	}
	if c.Heartbeat == nil {
		c.Heartbeat = func() {}
	}
	if c.HeartbeatWait == nil {
		c.HeartbeatWait = func(_ time.Time, most time.Duration) time.Duration { return most }
	}
	if c.Dial == nil {
		c.Dial = dialTCP
		c.watchNetwork = netwatch.Watch
	}
	if c.Files == nil {
		c.Files = NewCredentialFiles(CredentialFilesConfig{CA: c.CA, Certificate: c.Certificate, Key: c.Key, Password: c.PasswordFile})
	}
	return c
}

// prepare fills in defaults and checks the configuration.
func (c Config) prepare() (Config, endpoint.Endpoint, error) {
	c = c.withDefaults()
	at, err := endpoint.Parse(c.Endpoint)
	if err != nil {
		return c, at, fmt.Errorf("endpoint %q: %w", c.Endpoint, err)
	}
	c.Endpoint = at.String()
	return c, at, c.check()
}

// check returns what is wrong with a configuration that has its defaults.
func (c Config) check() error {
	files := c.Files.c
	switch {
	case c.ClientID == "" || len(c.ClientID) > 0xffff || !utf8.ValidString(c.ClientID) || strings.ContainsRune(c.ClientID, 0):
		return fmt.Errorf("client id: want 1 to 65535 bytes of UTF-8 without NUL (got %q)", c.ClientID)
	case files.CA == "" || (files.Certificate == "") != (files.Key == "") || files.Certificate == "" && c.Username == "":
		return fmt.Errorf("credentials: want the files of CA, certificate and key (got %q, %q, %q)", files.CA, files.Certificate, files.Key)
	case c.KeepAlive < time.Second || c.KeepAlive > 0xffff*time.Second:
		return fmt.Errorf("keep-alive: want 1s to 65535s (got %v)", c.KeepAlive)
	case c.MaxPayload < truncatedBytes || c.MaxPayload > maxInboundBytes:
		return fmt.Errorf("largest payload: want %d to %d bytes (got %d)", truncatedBytes, maxInboundBytes, c.MaxPayload)
	case c.Window < 1 || c.Window > maxWindow:
		return fmt.Errorf("window: want 1 to %d (got %d)", maxWindow, c.Window)
	case !slices.Contains([]Limits{"", LimitsAuto, LimitsAWS, LimitsNone}, c.Limits):
		return fmt.Errorf("limits: want auto, aws or none (got %q)", c.Limits)
	case c.Echo.Topic != "" && topic.Check(c.Echo.Topic) != nil || c.Echo.Within < 0:
		return fmt.Errorf("echo: want a topic that can be published to, and no negative time (got %q, %v)", c.Echo.Topic, c.Echo.Within)
	case c.AckDelay < 0:
		return fmt.Errorf("delay of acknowledgements: want no negative time (got %v)", c.AckDelay)
	case c.Drain < 0:
		return fmt.Errorf("drain: want no negative time (got %v)", c.Drain)
	case c.Outbox == nil:
		return errors.New("outbox: want one, an empty Queue if there is nothing to send")
	}
	if err := c.Access.check(); err != nil {
		return err
	}
	if c.Will != nil {
		if bad := unsendable(*c.Will); bad != "" || len(c.Will.Payload) > 0xffff {
			return fmt.Errorf("will: want what can be sent, of at most 65535 bytes (got %d bytes; %s)", len(c.Will.Payload), bad)
		}
	}
	return checkSubscriptions(c.Subscriptions)
}

// checkSubscriptions returns what is wrong with subscriptions.
func checkSubscriptions(all []Subscription) error {
	seen := map[string]bool{}
	for _, s := range all {
		if err := topic.CheckFilter(s.Filter); err != nil {
			return fmt.Errorf("subscription: filter %q %w", s.Filter, err)
		}
		if s.QoS > 1 || seen[s.Filter] {
			return fmt.Errorf("subscription %q: want it once, at QoS 0 or 1 (got QoS %d)", s.Filter, s.QoS)
		}
		seen[s.Filter] = true
	}
	return nil
}
