package uplink

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"fieldpost/daemon/endpoint"
	"fieldpost/daemon/wake"
)

// Reconfigure makes the link use another configuration. If possible, the connection and the
// session stay: new subscriptions are made, old ones are ended, and the topic of the echo,
// the limits, the window, the drain, the farewell, the largest payload and the outbox change.
// Before that it waits for the window to empty, so the outbox sees each message acknowledged
// or rewound. Everything that was left out because the broker denied it is tried again.
//
// Some settings need a new connection: the endpoint, the client id, the credential files, the
// keep-alive, a clean session and the will. If one of those differs, the connection is closed
// in order, so that no will is published, and a new one is made. reconnects names the
// settings.
//
// Observe, Heartbeat, HeartbeatWait, Log and Dial stay those of [New], whatever c has. If
// c.Files is set, it must be running. The link does not use the earlier Files after
// Reconfigure has returned.
//
// Reconfigure returns once the link uses c. If the connection stays, the broker has answered
// by then; [Status] says what it denied. If a new one is made, the old one has ended by then,
// so each of its unacknowledged messages is Lost. If the session becomes clean, or stops
// being clean, nothing of the old session is received after that, not even at QoS 0. If the
// error says what is wrong with c, nothing has changed. If it is ctx's error, the link will
// still use c. Any goroutine may call Reconfigure; of several calls the last one counts. If
// the link is not running, Reconfigure waits until it runs and uses c.
func (l *Link) Reconfigure(ctx context.Context, c Config) (reconnects []string, err error) {
	own := c.Files == nil
	c, at, err := c.prepare()
	if err != nil {
		return nil, fmt.Errorf("reconfigure link: %w", err)
	}
	r := &reconfiguration{config: c, at: at, own: own, done: make(chan struct{})}
	reconnects = l.reconfigurations.add(r)
	select {
	case <-r.done:
		return reconnects, nil
	case <-ctx.Done():
		return reconnects, ctx.Err()
	}
}

// Compare names the settings for which [Link.Reconfigure] would make a new connection. It
// changes nothing. The error says what is wrong with c. Any goroutine.
func (l *Link) Compare(c Config) (reconnects []string, err error) {
	c, _, err = c.prepare()
	if err != nil {
		return nil, fmt.Errorf("compare link: %w", err)
	}
	return l.reconfigurations.compare(c), nil
}

// needsConnection names the settings that differ and need a new connection, by their keys in
// the configuration file.
func needsConnection(a, b Config) (settings []string) {
	will := func(c Config) []byte {
		if c.Will == nil {
			return nil
		}
		return append([]byte(c.Will.Topic+"\x00"), c.Will.Payload...)
	}
	for _, x := range []struct {
		setting string
		differs bool
	}{
		{"endpoint", a.Endpoint != b.Endpoint},
		{"client_id", a.ClientID != b.ClientID},
		{"credentials", a.Files.paths() != b.Files.paths()},
		{"username", a.Username != b.Username},
		{"proxy", a.Proxy != b.Proxy},
		{"alpn", a.ALPN != b.ALPN},
		{"keep_alive", a.KeepAlive != b.KeepAlive},
		{"clean session", a.Clean != b.Clean},
		{"will", !bytes.Equal(will(a), will(b))},
	} {
		if x.differs {
			settings = append(settings, x.setting)
		}
	}
	return settings
}

// reconfiguration is a configuration that the link is to use.
type reconfiguration struct {
	config Config
	at     endpoint.Endpoint
	own    bool          // config.Files belongs to the link
	done   chan struct{} // closed once the link uses it
}

// reconfigurations are the configurations that the link does not use yet. Any goroutine.
type reconfigurations struct {
	wake wake.Signal // set while there are any

	mu      sync.Mutex
	latest  Config // the configuration that was asked for last
	waiting []*reconfiguration
}

// add adds one. It returns the settings that need a new connection.
func (r *reconfigurations) add(next *reconfiguration) (reconnects []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	reconnects = needsConnection(r.latest, next.config)
	r.latest = next.config
	r.waiting = append(r.waiting, next)
	r.wake.Set()
	return reconnects
}

// config returns the configuration that was asked for last.
func (r *reconfigurations) config() Config {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.latest
}

// compare returns the settings that need a new connection.
func (r *reconfigurations) compare(next Config) (reconnects []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return needsConnection(r.latest, next)
}

// any reports whether there are any.
func (r *reconfigurations) any() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.waiting) > 0
}

// takeAll removes and returns all. Only the last one counts.
func (r *reconfigurations) takeAll() (all []*reconfiguration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all, r.waiting = r.waiting, nil
	r.wake.Clear()
	return all
}

// adoption is what remains to do for configurations that are in use, once the old connection
// has ended. Only Run's goroutine uses it.
type adoption struct {
	waiting      []*reconfiguration // the calls to answer
	otherSession bool               // messages of the old session must be discarded
}

// adoptPending uses the configuration that was asked for last, while there is no connection,
// and answers the calls that asked for a new connection.
func (l *Link) adoptPending() {
	if all := l.reconfigurations.takeAll(); len(all) > 0 {
		l.adopt(all[len(all)-1])
		l.adoption.waiting = append(l.adoption.waiting, all...)
	}
	l.answerAdopted()
}

// answerAdopted answers the calls whose configuration was adopted, now that the old
// connection has ended.
func (l *Link) answerAdopted() {
	if l.adoption.otherSession {
		l.inbound.discard(true)
	}
	for _, r := range l.adoption.waiting {
		close(r.done)
	}
	l.adoption = adoption{}
}

// adopt uses a configuration from now on. It returns the settings that need a new connection.
func (l *Link) adopt(r *reconfiguration) (reconnects []string) {
	before, c := l.cfg, r.config
	c.Observe, c.Heartbeat, c.HeartbeatWait, c.Log, c.Dial = before.Observe, before.Heartbeat, before.HeartbeatWait, before.Log, before.Dial
	reconnects = needsConnection(before, c)
	other := before.Endpoint != c.Endpoint || before.ClientID != c.ClientID
	if other || c.Echo != before.Echo {
		l.setEchoMissing(false)
		l.echo = echoState{}
	}
	l.inquiry = inquiry{}
	l.rotation.use(c.Files, r.own)
	c.Files = l.rotation.files
	l.cfg = c
	if other {
		l.forgetBroker(r.at)
	} else {
		l.subs.change(c)
		now := time.Now()
		l.subs.denials.denied.retryAll(now)
		l.topics.denied.retryAll(now)
	}
	if before.Limits != c.Limits || before.Endpoint != c.Endpoint {
		l.rate = newRateLimiter(r.at.Host, c.Limits)
	}
	if slices.Contains(reconnects, "clean session") {
		l.session, l.adoption.otherSession = session{}, true
	}
	l.cfg.Log.Info("link has a new configuration", "endpoint", c.Endpoint, "client_id", c.ClientID, "needs_connection", strings.Join(reconnects, ", "))
	return reconnects
}

// forgetBroker starts from scratch with another broker, or as another client: what was learnt
// about the last one does not apply.
func (l *Link) forgetBroker(at endpoint.Endpoint) {
	l.at = at
	l.subs, l.topics = newSubscriptions(l.cfg), newTopicDenials()
	l.session, l.will, l.idle, l.takeover, l.attempts.resets = session{}, willRetry{}, idleTimeout{}, takeover{}, 0
	l.backoff.reset()
	l.status.change(func(s *Status) { s.Endpoint, s.ClientID = l.cfg.Endpoint, l.cfg.ClientID })
}

// reconfigure uses the configuration that was asked for, if there is one, on an open
// connection. It waits for the window to empty, and reports whether publishing must stop
// meanwhile.
func (c *connection) reconfigure(ctx context.Context) bool {
	l := c.link
	if !l.reconfigurations.any() {
		return false
	}
	if c.publisher.window.len() > 0 {
		return true
	}
	all := l.reconfigurations.takeAll()
	l.adoption.waiting = append(l.adoption.waiting, all...)
	if reconnects := l.adopt(all[len(all)-1]); len(reconnects) > 0 {
		c.reconnect = true // the call is answered once this connection has ended
		return true
	}
	defer l.answerAdopted()
	c.transport.reader.maxPayload.Store(int64(l.cfg.MaxPayload))
	if err := c.changeSubscriptions(ctx); err != nil {
		c.transport.fail(err)
		return true
	}
	c.publisher.rewind()
	l.update(func(s *Status) {
		s.Err = l.amiss()
		noteDenied(l, s)
	})
	return ctx.Err() != nil
}

// changeSubscriptions makes the session hold the subscriptions of a configuration that was
// just adopted, and starts to wait for an echo again. Nothing is in flight.
func (c *connection) changeSubscriptions(ctx context.Context) error {
	if err := c.endEcho(ctx); err != nil {
		return err
	}
	c.prepareEcho()
	c.echo.startAt = time.Now()
	if err := c.subscriber.subscribe(ctx, c.subscriber.missing(time.Now())); err != nil || ctx.Err() != nil {
		return err
	}
	return c.subscriber.dropObsolete(ctx)
}

// change uses the subscriptions of another configuration. Old ones are dropped.
func (s *subscriptions) change(c Config) {
	before := s.wanted
	s.wanted = c.Subscriptions
	s.obsolete = slices.DeleteFunc(s.obsolete, func(o obsoleteFilter) bool { return s.wants(o.filter) })
	for _, x := range before {
		if !s.wants(x.Filter) {
			s.denials.forget(x.Filter)
			s.drop(x.Filter)
		}
	}
	for _, f := range c.Unsubscribe {
		s.drop(f)
	}
}

// missing returns the subscriptions that are wanted and allowed and that this connection does
// not hold at their QoS.
func (s *subscriber) missing(now time.Time) []Subscription {
	subs := &s.link.subs
	return slices.DeleteFunc(subs.denials.allowed(subs.wanted, now), func(x Subscription) bool {
		qos, held := s.held[x.Filter]
		return held && qos == x.QoS
	})
}
