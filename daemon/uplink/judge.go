package uplink

import (
	"strings"
	"time"

	"fieldpost/daemon/health"
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
	at := Scene{Phase: s.phase, Endpoint: l.cfg.Endpoint, ClientID: l.cfg.ClientID, Topic: s.subject, Now: later(now, l.built), SessionPresent: s.present || l.cfg.Clean}
	how := endingOf(err, s.remote())
	count(&l.resets, s.phase == Connecting && wasReset(err))
	answer := how != byNetwork && now.Sub(s.asked) <= soon // it may be one to what we asked
	switch {
	case s.phase == Connecting:
		answer = false
		at.Repeated = l.resets >= 2 // networks reset too, but seldom just here twice in a row
	case s.phase == Subscribing && answer:
		if at.Repeated = l.filters.hungUp(s.subject, how, now); at.Repeated {
			l.cfg.Log.Warn("subscription is denied", "filter", s.subject)
		}
	case s.phase == Publishing && answer:
		at.Topic, at.Repeated = l.blame(s.window, how, now)
	default:
		answer = false
	}
	if answer {
		l.topics.interrupt(how)
	}
	if l.kicked(s, how == byBroker && lived < steady, at.Repeated) {
		at.Phase, at.Repeated = Idle, true
	}
	why := Explain(err, at)
	if !answer && (!needsPerson(why.Code) || why.Code == string(health.DuplicateClient)) {
		l.filters.contradicted(now)
		l.topics.contradicted(now)
	}
	if why.Code == string(health.DuplicateClient) {
		l.rival = why
	}
	if s.creds != nil && (s.phase == Handshaking || s.phase == Connecting) {
		l.keys.failed(s.creds, why)
	}
	return why
}

// kicked counts connections that the broker closed soon after they stood, and
// reports whether that is another client with our client id, come or come back.
// A close with messages in flight says less: it may be about one of them.
func (l *Link) kicked(s *session, closed, denied bool) bool {
	switch {
	case closed && s.phase == Idle && !s.up.IsZero():
		l.kicks += 2
	case closed && s.phase == Publishing && s.acked > 0 && !denied:
		l.kicks++
	default:
		l.kicks = 0
	}
	return l.kicks >= 6
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
	if held := l.topics.denied(); len(held) > 0 {
		return publishDenied(strings.Join(held, ", "))
	}
	if l.keys.trouble != nil {
		return l.keys.trouble
	}
	if l.rival != nil {
		return l.rival
	}
	return nil
}

// look has the files looked at again once in a while, where newer credentials
// are not in use.
func (l *Link) look(now time.Time) {
	if now.Sub(l.looked) < lookEvery {
		return
	}
	l.looked = now
	if l.keys.recheck() {
		l.update(func(s *Status) { s.Err = l.amiss() })
	}
}

// calm learns from a connection that has lasted: what was left out was so
// rightly, and no other client uses our client id any more.
func (l *Link) calm(up time.Time) {
	if time.Since(up) < steady {
		return
	}
	l.filters.bans.prove()
	l.topics.lasted()
	if l.rival != nil {
		l.rival, l.kicks = nil, 0
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
	l.kicks = 0
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
