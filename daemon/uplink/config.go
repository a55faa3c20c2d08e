package uplink

import (
	"context"
	"log/slog"
	"net"
	"time"
)

// Config says where to connect and as whom. Files are read anew for every
// connection, so that a renewed certificate needs no restart.
type Config struct {
	Endpoint    string // as [endpoint.Parse] reads it; port 443 uses ALPN x-amzn-mqtt-ca
	ClientID    string // MQTT client id
	CA          string // PEM file of root certificates
	Certificate string // PEM file of our certificate (chain)
	Key         string // PEM file of our private key
	// Files owns those three where others need them too, and runs as long as the
	// link does; they are left empty then. nil: the link reads them itself.
	Files     *CredentialFiles
	KeepAlive time.Duration // 0 is 30 s
	Clean     bool          // a clean session, for short-lived clients
	Limits    Limits        // "" is [LimitsAuto]

	Subscriptions []Subscription
	Echo          Echo // listens whether a message of ours is delivered
	// Unsubscribe names filters that the session may hold of an earlier configuration. They
	// are given up on the first connection, once the link stands; those among
	// Subscriptions, and what is no filter, are left out.
	Unsubscribe []string
	// Unsubscribed is told of each of Unsubscribe that the session does not hold any more, from
	// Run's goroutine; must not block; may be nil.
	Unsubscribed func(filter string)
	Outbox       Outbox
	// Will is published by the broker when it loses us; nil is none. It must
	// carry no time, as it is written when we connect.
	Will *Publication
	// Farewell, where set, is asked at an orderly end for a last mail, sent
	// after the outbox has been drained, before the DISCONNECT.
	Farewell func() Publication

	// MaxPayload is the largest payload, in bytes, that is received: 1 KiB to 4 MiB, 0
	// is 128 KiB. Of a message over it only the beginning is kept; see [Message].
	MaxPayload int

	Window    int           // publishes in flight; 0 is 32, at most 64
	Drain     time.Duration // how long an orderly end waits for PUBACKs; 0 is 5 s
	Observe   func(Status)  // called on every change of Status, from Run's goroutine; must not block; may be nil
	Heartbeat func()        // called at least every few seconds while Run's supervisor turns; may be nil
	Log       *slog.Logger  // nil discards

	// Dial opens the TCP connection; nil is the operating system's. For tests.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}
