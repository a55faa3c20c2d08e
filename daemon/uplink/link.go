package uplink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"fieldpost/daemon/endpoint"
	"fieldpost/daemon/health"
	"fieldpost/daemon/topic"
)

const (
	turnEvery    = 2 * time.Second // how often the supervisor turns at least
	goodbyeWait  = 2 * time.Second // for the PUBACK of the farewell
	defaultAlive = 30 * time.Second
	lookEvery    = time.Minute
	filesWait    = 5 * time.Second // for the files of the credentials, before a connection
)

// Link is a connection to a broker that is made again whenever it ends.
type Link struct {
	cfg     Config
	at      endpoint.Endpoint
	inbound *inbound
	built   time.Time
	random  func(below time.Duration) time.Duration
	running atomic.Bool
	dropped atomic.Uint64 // counted where a Status cannot be changed

	mu        sync.Mutex
	status    Status
	asked     requests
	untold    uint64 // messages dropped and not logged yet
	dropsTold time.Time

	// The rest belongs to Run's goroutine.
	keys        keyring
	wait        backoff
	tried       time.Time // when the last attempt began
	filters     filters
	stale       []stale // filters to be given up
	topics      topics
	pace        *pace
	resets      int // connections in a row that were reset before the CONNACK
	kicks       kicks
	idle        idling
	listen      bool            // the next connection publishes nothing at first; see listening
	rival       *Explained      // another client uses our client id; until a connection has lasted
	own         bool            // cfg.Files is nobody else's
	looked      time.Time       // when the files of credentials that are not in use were last asked for
	read        <-chan struct{} // closed when they have been read
	wills       wills
	echoes      echoes
	memory      memory // what the broker has said of our session
	toldDropped uint64 // what Observe was last told of dropped
	told        string // the code of the last failure that was logged
}

// New checks the configuration and gives a Link that does nothing until Run.
func New(c Config) (*Link, error) {
	if c.KeepAlive == 0 {
		c.KeepAlive = defaultAlive
	}
	if c.MaxPayload == 0 {
		c.MaxPayload = defaultPayload
	}
	if c.Window == 0 {
		c.Window = 32
	}
	if c.Echo.Within == 0 {
		c.Echo.Within = defaultWithin
	}
	if c.Drain == 0 {
		c.Drain = 5 * time.Second
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
	if c.Dial == nil {
		c.Dial = (&net.Dialer{Control: tune}).DialContext
	}
	own := c.Files == nil
	if own {
		c.Files = NewCredentialFiles(CredentialFilesConfig{CA: c.CA, Certificate: c.Certificate, Key: c.Key})
	}
	at, err := endpoint.Parse(c.Endpoint)
	if err != nil {
		err = fmt.Errorf("endpoint %q: %w", c.Endpoint, err)
	}
	c.Endpoint = at.String()
	if err == nil {
		err = validate(c)
	}
	if err != nil {
		return nil, fmt.Errorf("configure link: %w", err)
	}
	l := &Link{
		cfg: c, at: at, built: builtAt(), random: jitter,
		inbound: newInbound(),
		asked:   requests{hurry: make(chan struct{}, 1)},
		status:  Status{Endpoint: c.Endpoint, ClientID: c.ClientID},
		keys:    keyring{files: c.Files}, own: own,
		filters: newFilters(), stale: staleOf(c), topics: newTopics(), pace: paceFor(at.Host, c.Limits),
	}
	l.wait.random = func(below time.Duration) time.Duration { return l.random(below) }
	return l, nil
}

func validate(c Config) error {
	switch {
	case c.ClientID == "" || len(c.ClientID) > 0xffff || !utf8.ValidString(c.ClientID) || strings.ContainsRune(c.ClientID, 0):
		return fmt.Errorf("client id: want 1 to 65535 bytes of UTF-8 without NUL (got %q)", c.ClientID)
	case c.Files.c.CA == "" || c.Files.c.Certificate == "" || c.Files.c.Key == "":
		return fmt.Errorf("credentials: want the files of CA, certificate and key (got %q, %q, %q)", c.Files.c.CA, c.Files.c.Certificate, c.Files.c.Key)
	case c.KeepAlive < time.Second || c.KeepAlive > 0xffff*time.Second:
		return fmt.Errorf("keep-alive: want 1s to 65535s (got %v)", c.KeepAlive)
	case c.MaxPayload < headBytes || c.MaxPayload > inboundBytes:
		return fmt.Errorf("largest payload: want %d to %d bytes (got %d)", headBytes, inboundBytes, c.MaxPayload)
	case c.Window < 1 || c.Window > 64:
		return fmt.Errorf("window: want 1 to 64 (got %d)", c.Window)
	case !slices.Contains([]Limits{"", LimitsAuto, LimitsAWS, LimitsNone}, c.Limits):
		return fmt.Errorf("limits: want auto, aws or none (got %q)", c.Limits)
	case c.Echo.Topic != "" && topic.Check(c.Echo.Topic) != nil || c.Echo.Within < 0:
		return fmt.Errorf("echo: want a topic that can be published to, and no negative time (got %q, %v)", c.Echo.Topic, c.Echo.Within)
	case c.Drain < 0:
		return fmt.Errorf("drain: want no negative time (got %v)", c.Drain)
	case c.Outbox == nil:
		return errors.New("outbox: want one, an empty Queue if there is nothing to send")
	}
	if c.Will != nil {
		if bad := unsendable(*c.Will); bad != "" || len(c.Will.Payload) > 0xffff {
			return fmt.Errorf("will: want what can be sent, of at most 65535 bytes (got %d bytes; %s)", len(c.Will.Payload), bad)
		}
	}
	seen := map[string]bool{}
	for _, s := range c.Subscriptions {
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

// Messages gives what the broker sends. It has room for 1280 messages and 4 MiB of
// them, and is never closed. Whoever receives acknowledges; see [Message].
func (l *Link) Messages() <-chan Message { return l.inbound.ch }

// Status gives the present state. Any goroutine.
func (l *Link) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.status.Dropped = l.dropped.Load()
	return l.status
}

// Run keeps the link until ctx ends, and then ends it in order: what is in the
// outbox is sent and acknowledged for as long as Config.Drain, then comes the
// farewell, then the DISCONNECT. It returns nil then, and an error only when
// it runs already.
//
// Run calls the Outbox, Observe, Heartbeat and Farewell from its own goroutine.
func (l *Link) Run(ctx context.Context) error {
	if !l.running.CompareAndSwap(false, true) {
		return errors.New("run link: it runs already")
	}
	defer l.running.Store(false)
	if l.own {
		defer l.readFiles()()
	}
	for ctx.Err() == nil {
		l.cfg.Heartbeat()
		most, ended := l.attempt(ctx)
		if ended {
			break
		}
		if most == 0 { // it was asked for
			l.anew(ctx)
			continue
		}
		l.answer()
		l.pause(ctx, l.wait.next(most))
	}
	l.update(func(s *Status) { s.Connected, s.Err = false, nil })
	return nil
}

// readFiles has the files of the credentials read until the end is called.
func (l *Link) readFiles() (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = l.cfg.Files.Run(ctx) // it gives none
	}()
	return func() {
		cancel()
		<-done
	}
}

// attempt makes one connection and keeps it as long as it lasts. It gives the
// bound for the wait before the next one, 0 if that was asked for, or ended when
// ctx has.
func (l *Link) attempt(ctx context.Context) (most time.Duration, ended bool) {
	l.update(func(s *Status) { s.Attempts, s.Next = s.Attempts+1, time.Time{} })
	l.tried = time.Now()
	s := &session{l: l, lost: make(chan struct{})}
	l.prepare(&s.hearing)
	err := s.run(ctx)
	switch {
	case ctx.Err() != nil:
		return 0, true
	case errors.Is(err, errAgain):
		l.update(func(st *Status) { st.Connected, st.Err = false, nil })
		return 0, false
	}
	why := l.judge(s, err)
	l.update(func(st *Status) {
		st.Connected, st.Err, st.Denied = false, why, l.filters.bans.names()
	})
	if l.told != why.Code {
		l.told = why.Code
		l.cfg.Log.Warn("link is down", "code", why.Code, "error", why.Error(), "hint", why.Hint, "endpoint", l.cfg.Endpoint, "client_id", l.cfg.ClientID)
	}
	switch {
	case l.keys.turn: // to try what has worked before needs no patience
		return backoffFirst, false
	case why.Code == string(health.DuplicateClient): // each attempt comes through, and may be the one that lasts
		return backoffLost, false
	case needsPerson(why.Code):
		return backoffDenied, false
	}
	return backoffLost, false
}

// update changes the status and tells the observer.
func (l *Link) update(change func(*Status)) {
	l.mu.Lock()
	change(&l.status)
	l.status.PingEvery, l.status.IdleTimeout = l.idle.every, l.idle.found
	l.mu.Unlock()
	now := l.Status()
	l.toldDropped = now.Dropped
	l.cfg.Observe(now)
}

// rest notes when the next attempt is. Observe has been told of the failure, and
// is not called again.
func (l *Link) rest(until time.Time) {
	l.mu.Lock()
	l.status.Next = until
	l.mu.Unlock()
}

// await waits until a or b is ready, d has passed or ctx has ended, and turns
// meanwhile. It reports whether a or b was ready.
func (l *Link) await(ctx context.Context, d time.Duration, a, b <-chan struct{}) bool {
	tick := time.NewTicker(turnEvery)
	defer tick.Stop()
	over := time.NewTimer(d)
	defer over.Stop()
	for {
		l.cfg.Heartbeat()
		select {
		case <-a:
			return true
		case <-b:
			return true
		case <-over.C:
			return false
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}
