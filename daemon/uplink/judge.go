package uplink

import (
	"context"
	"strings"
	"time"

	"fieldpost/daemon/health"
	"fieldpost/daemon/refresh"
)

// judge learns from how a session ended and says what that means.
func (l *Link) judge(s *session, err error) *Explained {
	now := time.Now()
	lived := time.Duration(0)
	if !s.up.IsZero() {
		lived = now.Sub(s.up)
	}
	if lived >= steady && (s.acked > 0 || !s.sent) {
		l.wait.reset()
	}
	at := s.scene(now)
	how := endingOf(err, s.remote())
	count(&l.resets, s.phase == Connecting && wasReset(err))
	answer := how != byNetwork && now.Sub(s.asked) <= soon // it may be one to what we asked
	switch {
	case s.phase == Connecting:
		answer = false
		at.Repeated = l.resets >= 2 // networks reset too, but seldom just here twice in a row
	case s.probing:
		answer = false
		s.deaf()
	case s.phase == Subscribing && answer:
		if at.Repeated = l.filters.hungUp(s.subject, how, now); at.Repeated {
			l.cfg.Log.Warn("subscription is denied", "filter", s.subject)
		}
	case s.phase == Unsubscribing && answer:
		l.keptAfter(how)
	case s.phase == Publishing && answer:
		at.Topic, at.Repeated = l.blame(s.window, how, now)
	default:
		answer = false
	}
	if answer {
		l.topics.interrupt(how)
	}
	l.lulled(s, err, how, lived, &at)
	doubtful := s.phase == Publishing && at.Repeated && s.acked == 0
	l.kicked(s, how == byBroker && lived < steady, at.Repeated)
	l.listen = !l.kicks.rival() && (doubtful || l.listen && l.kicks.idle > 0)
	if l.kicks.rival() {
		at.Phase, at.Repeated, at.Lull = Idle, true, 0
	}
	why := Explain(err, at)
	l.remember(s, why, lived)
	if !answer && (!needsPerson(why.Code) || why.Code == string(health.DuplicateClient)) {
		l.filters.contradicted(now)
		l.topics.contradicted(now)
	}
	return why
}

// scene says what was going on, before anything is known of why it ended.
func (s *session) scene(now time.Time) Scene {
	l := s.l
	return Scene{
		Phase: s.phase, Endpoint: l.cfg.Endpoint, ClientID: l.cfg.ClientID, Topic: s.subject, Now: later(now, l.built),
		SessionPresent: s.present || l.cfg.Clean || l.memory.silent(), Unseen: s.phase == Handshaking && !s.shown,
		Will: l.cfg.Will != nil, Willless: l.cfg.Will != nil && l.wills.tried(), Persistent: !l.cfg.Clean,
	}
}

// remember keeps what the next connections have to know of why this one ended, after
// it had stood for lived.
func (l *Link) remember(s *session, why *Explained, lived time.Duration) {
	l.idle.why = nil
	switch health.Code(why.Code) {
	case health.IdleTimeout:
		l.idle.why = why
	case health.DuplicateClient:
		l.rival = why
		if lived >= soon { // it is not back at once any more
			l.wait.ease()
		}
	case health.ConnectRefused:
		if s.phase == Connecting {
			l.wills.refused++
		}
	}
	if s.creds != nil && (s.phase == Handshaking || s.phase == Connecting) {
		l.keys.failed(s.creds, why)
	}
}

// kicks counts short connections that the broker closed, with none between them
// that lasted or ended otherwise.
type kicks struct {
	idle int // while nothing was under way
	busy int // with messages in flight, after it had acknowledged others
}

// rival reports whether that is another client with our client id, come or come
// back. A close with messages in flight says less: it may be about one of them.
func (k kicks) rival() bool { return 2*k.idle+k.busy >= 6 }

// kicked counts how this connection ended. A close by which something is denied
// says nothing for another client, and nothing against it.
func (l *Link) kicked(s *session, closed, denied bool) {
	switch {
	case closed && s.phase == Idle:
		l.kicks.idle++
	case closed && denied:
	case closed && s.phase == Publishing && s.acked > 0:
		l.kicks.busy++
	case closed && s.phase >= Subscribing && l.rival != nil:
	default:
		l.kicks = kicks{}
	}
}

// lulled finds out whether a connection ended because nothing was sent. That is no
// failure to back off for: the next one is to last.
func (l *Link) lulled(s *session, err error, how ending, lived time.Duration, at *Scene) {
	closed := how != byNetwork && s.phase == Idle
	if !l.idle.ended(s.lullOf(err, how), closed, lived) {
		return
	}
	l.cfg.Log.Info("connection ends when nothing is sent; pings go more often from now on", "idle", l.idle.found, "ping_every", l.idle.every)
	if l.idle.found >= tellIdle && l.rival == nil {
		at.Lull, at.Every = l.idle.found, l.idle.every
		l.wait.reset()
	}
}

// count adds one to n or sets it back.
func count(n *int, again bool) {
	if again {
		*n++
	} else {
		*n = 0
	}
}

// amiss gives what is to be said while the link stands.
func (l *Link) amiss() error {
	if l.rival != nil { // what is held may be its doing
		return l.rival
	}
	if l.idle.why != nil {
		return l.idle.why
	}
	if held := l.topics.denied(); len(held) > 0 {
		return publishDenied(strings.Join(held, ", "))
	}
	if l.keys.trouble != nil {
		return l.keys.trouble
	}
	if !l.wills.without.IsZero() {
		return l.willRefused()
	}
	return nil
}

// look has the files read again once in a while, where newer credentials are
// not in use, and looks at what came of that.
func (l *Link) look(now time.Time) {
	select {
	case <-l.read:
		l.read = nil
		if l.keys.recheck() {
			l.update(func(s *Status) { s.Err = l.amiss() })
		}
	default:
	}
	if l.keys.trouble != nil && now.Sub(l.looked) >= lookEvery {
		l.looked, l.read = now, l.cfg.Files.Refresh()
	}
}

// freshen has the files read, and waits for that where it comes soon.
func (l *Link) freshen(ctx context.Context) {
	if l.cfg.Files.Pending() < refresh.Slow {
		l.await(ctx, filesWait, l.cfg.Files.Refresh(), nil)
	}
}

// calm learns from a connection that has lasted: what was left out was so
// rightly, and no other client uses our client id any more.
func (l *Link) calm(up time.Time) {
	lived := time.Since(up)
	if l.idle.lasted(lived) {
		l.update(func(s *Status) { s.Err = l.amiss() })
	}
	if lived < steady {
		return
	}
	if l.rival != nil { // what is left out may have been its doing
		l.filters.bans.doubt(time.Now())
		l.topics.bans.doubt(time.Now())
	}
	l.filters.bans.prove()
	l.topics.lasted()
	if l.rival != nil {
		l.rival, l.kicks = nil, kicks{}
		l.update(func(s *Status) { s.Err = l.amiss() })
	}
}

// blame learns from a hang-up with these in flight. It gives the topic that is
// held because of it.
func (l *Link) blame(inFlight []flight, how ending, now time.Time) (topic string, held bool) {
	v := l.topics.hungUp(inFlight, how, now)
	if v == unclear {
		return "", false
	}
	l.kicks.busy = 0
	f := inFlight[0] // a verdict is about one alone
	switch v {
	case denied:
		l.cfg.Log.Warn("publishing is denied; the mail is kept", "topic", f.topic)
	case poison:
		l.cfg.Log.Warn("message is set aside: the broker hangs up on it, and takes others of its topic", "topic", f.topic)
		l.cfg.Outbox.Refuse(f.id, refusedByBroker)
	}
	return f.topic, v != poison
}
