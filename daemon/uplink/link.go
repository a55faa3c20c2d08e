package uplink

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"fieldpost/daemon/endpoint"
	"fieldpost/daemon/health"
	"fieldpost/daemon/task"
	"fieldpost/daemon/wake"
)

const (
	heartbeatEvery    = 2 * time.Second // Run's goroutine calls Config.Heartbeat at least this often
	disconnectTimeout = 2 * time.Second // for the PUBACK of the farewell, and for the DISCONNECT
)

// Link is a connection to a broker that is made again whenever it ends.
type Link struct {
	cfg     Config
	at      endpoint.Endpoint
	built   time.Time // the current time cannot be before this
	running atomic.Bool

	// Any goroutine.
	inbound          *inboundQueue
	drops            dropCounter
	status           currentStatus
	reconnects       reconnects
	reconfigurations reconfigurations
	trials           trials

	// Run's goroutine. Parts that outlive a connection.
	others   *task.Group // all other goroutines: ours and those that call us
	rotation rotation
	backoff  backoff
	network  network
	subs     subscriptions
	topics   topicDenials
	rate     *rateLimiter
	session  session
	will     willRetry
	idle     idleTimeout
	takeover takeover
	echo     echoState

	inquiry  inquiry
	adoption adoption
	attempts attempts
}

// attempts is what is recorded about connection attempts.
type attempts struct {
	last   time.Time // when the last one began
	resets int       // attempts in a row that were reset before the CONNACK

	reportedCode  string // of the last failure that was logged
	reportedDrops uint64 // the count that the observer last saw
}

// New checks the configuration and returns a Link. The Link does nothing until Run.
func New(c Config) (*Link, error) {
	own := c.Files == nil
	c, at, err := c.prepare()
	if err != nil {
		return nil, fmt.Errorf("configure link: %w", err)
	}
	l := &Link{
		cfg: c, at: at, built: builtAt(), backoff: backoff{random: jitter}, network: network{news: wake.New()},
		others:           new(task.Group),
		inbound:          newInboundQueue(),
		drops:            dropCounter{log: c.Log},
		status:           currentStatus{status: Status{Endpoint: c.Endpoint, ClientID: c.ClientID}},
		reconnects:       reconnects{wake: wake.New()},
		reconfigurations: reconfigurations{wake: wake.New(), latest: c},
		trials:           trials{wake: wake.New()},
		rotation:         rotation{files: c.Files, own: own},
		subs:             newSubscriptions(c), topics: newTopicDenials(), rate: newRateLimiter(at.Host, c.Limits),
	}
	return l, nil
}

// Messages returns the channel of messages from the broker. It has room for 1280 messages and
// 4 MiB, and is never closed. The receiver acknowledges messages; see [Message].
func (l *Link) Messages() <-chan Message { return l.inbound.ch }

// Run keeps the link connected until ctx ends, and then ends it in order: it sends what is in
// the outbox and waits for acknowledgements for at most Config.Drain, then sends the
// farewell, then DISCONNECT. Then it returns nil. The only error is that it is already
// running.
//
// Run calls the Outbox, Observe, Heartbeat and Farewell from its own goroutine.
func (l *Link) Run(ctx context.Context) error {
	if !l.running.CompareAndSwap(false, true) {
		return errors.New("run link: already running")
	}
	defer l.running.Store(false)
	l.others = task.NewGroup(ctx)
	l.rotation.start(l.others)
	defer l.rotation.stop()
	defer l.network.stop()
	defer l.answerAdopted()
	for ctx.Err() == nil {
		l.cfg.Heartbeat()
		l.adoptPending()
		w, ended := l.attempt(ctx)
		if ended {
			break
		}
		// A new configuration may have come to a connection that ended before it was used.
		if w.most == 0 || l.reconfigurations.any() || len(l.adoption.waiting) > 0 { // it was asked for
			l.prepareReconnect(ctx)
			continue
		}
		l.answerReconnects()
		l.pause(ctx, w)
	}
	l.update(func(s *Status) { s.Connected, s.Err = false, nil })
	return nil
}

// attempt makes one connection and keeps it as long as it lasts. It returns the wait before
// the next one, none if that was asked for. ended is true if ctx has ended.
func (l *Link) attempt(ctx context.Context) (w wait, ended bool) {
	l.update(func(s *Status) { s.Attempts, s.Next = s.Attempts+1, time.Time{} })
	l.attempts.last = time.Now()
	l.network.news.Clear() // this attempt includes all changes so far
	c := newConnection(l)
	err := c.run(ctx)
	if c.trial != nil && c.publisher.acked > 0 {
		c.passTrial()
	}
	tried := c.trial != nil
	if tried {
		l.failTrial(ctx, c, err)
	}
	switch {
	case ctx.Err() != nil:
		return wait{}, true
	case errors.Is(err, errReconnect), tried:
		l.update(func(s *Status) { s.Connected, s.Err = false, nil })
		return wait{}, false
	}
	why := l.diagnose(c, err)
	l.inquire(ctx, c, why)
	if ctx.Err() != nil {
		return wait{}, true
	}
	l.update(func(s *Status) { s.Connected, s.Err = false, why; noteDenied(l, s) })
	if l.attempts.reportedCode != why.Code {
		l.attempts.reportedCode = why.Code
		l.cfg.Log.Warn("not connected", "code", why.Code, "error", why.Error(), "hint", why.Hint, "endpoint", l.cfg.Endpoint, "client_id", l.cfg.ClientID)
	}
	return l.waitAfter(why, c.exchange.phase), false
}

// waitAfter returns how long to wait after an attempt that ended in this phase.
func (l *Link) waitAfter(why *Explained, phase Phase) wait {
	switch {
	case l.rotation.retryCurrent: // credentials that have worked before are tried soon
		return wait{most: backoffSoon}
	case why.Code == string(health.DuplicateClient): // each attempt succeeds, and may be the one that lasts
		return wait{most: backoffMax}
	case needsPerson(why.Code):
		return wait{most: backoffMaxRefused}
	case phase == Dialing && why.Code == string(health.NetworkDown):
		return wait{most: backoffMaxUnreached, unreached: true, hurried: true}
	}
	return wait{most: backoffMax, hurried: true}
}

// await waits until a or b is ready, d has passed or ctx has ended, and calls
// Config.Heartbeat meanwhile. It reports whether a or b was ready.
func (l *Link) await(ctx context.Context, d time.Duration, a, b <-chan struct{}) bool {
	return l.awaitAny(ctx, d, a, b, nil, nil) != 0
}

// awaitAny is await for four channels. It returns the number of the ready one, 1 to 4, or 0.
func (l *Link) awaitAny(ctx context.Context, d time.Duration, a, b, c, e <-chan struct{}) int {
	tick := time.NewTicker(heartbeatEvery)
	defer tick.Stop()
	over := time.NewTimer(d)
	defer over.Stop()
	for {
		l.cfg.Heartbeat()
		select {
		case <-a:
			return 1
		case <-b:
			return 2
		case <-c:
			return 3
		case <-e:
			return 4
		case <-over.C:
			return 0
		case <-ctx.Done():
			return 0
		case <-tick.C:
		}
	}
}
