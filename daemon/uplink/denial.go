package uplink

import (
	"slices"
	"time"
)

const (
	firstRetry = time.Minute // how long until what was denied is tried again
	maxRetry   = time.Hour   // which doubles up to this
)

// denial says that a topic or a topic filter is left out because the broker does not
// allow it.
type denial struct {
	kind    endKind       // of the hang-ups that it rests on
	wait    time.Duration // from the last hang-up until it is tried again
	retryAt time.Time     // the end of that
	proven  bool          // the broker has said so, or a connection has lasted without it
	said    bool          // the broker has said so
}

// denials are the filters or topics that are left out, by name.
type denials map[string]*denial

// deny leaves something out, each time for longer.
func (d denials) deny(name string, kind endKind, now time.Time) *denial {
	x := d[name]
	if x == nil {
		x = &denial{kind: kind, wait: firstRetry / 2}
		d[name] = x
	}
	x.wait = min(2*x.wait, maxRetry)
	x.retryAt = now.Add(x.wait)
	return x
}

// deniesAgain reports whether a single hang-up denies again what is being retried: it
// does if it is as strong as those before.
func (d denials) deniesAgain(name string, kind endKind) bool {
	x := d[name]
	return x != nil && kind >= x.kind
}

// retryUnproven makes everything due that is not proven: the connection should have
// lasted without it, and has not.
func (d denials) retryUnproven(now time.Time) {
	for _, x := range d {
		if !x.proven && now.Before(x.retryAt) {
			x.retryAt = now
		}
	}
}

// retryAll makes everything due.
func (d denials) retryAll(now time.Time) {
	for _, x := range d {
		if now.Before(x.retryAt) {
			x.retryAt = now
		}
	}
}

// prove notes that a connection without them has lasted.
func (d denials) prove() {
	for _, x := range d {
		x.proven = true
	}
}

// due reports whether anything may be tried again.
func (d denials) due(now time.Time) bool {
	for _, x := range d {
		if !now.Before(x.retryAt) {
			return true
		}
	}
	return false
}

// names gives what is left out, sorted.
func (d denials) names() []string {
	var names []string
	for name := range d {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// filterDenials knows which topic filters the broker does not let us subscribe to.
type filterDenials struct {
	streaks map[string]*streak // of hang-ups instead of a SUBACK
	denied  denials
}

func newFilterDenials() filterDenials {
	return filterDenials{streaks: map[string]*streak{}, denied: denials{}}
}

// hungUp notes that the broker ended the connection instead of answering a
// SUBSCRIBE. It reports whether the filter is left out from now on.
func (f *filterDenials) hungUp(filter string, kind endKind, now time.Time) bool {
	s := f.streaks[filter]
	if s == nil {
		s = &streak{}
		f.streaks[filter] = s
	}
	if !s.add(kind) && !f.denied.deniesAgain(filter, kind) {
		return false
	}
	delete(f.streaks, filter)
	f.denied.deny(filter, kind, now)
	return true
}

// refused notes a SUBACK that refuses.
func (f *filterDenials) refused(filter string, now time.Time) {
	delete(f.streaks, filter)
	d := f.denied.deny(filter, closedByPeer, now)
	d.proven, d.said = true, true
}

// forget forgets what was held against a filter: it was granted, or is not wanted any
// more.
func (f *filterDenials) forget(filter string) {
	delete(f.streaks, filter)
	delete(f.denied, filter)
}

// contradicted notes that a connection ended early for another reason than our
// requests: so may those before it have.
func (f *filterDenials) contradicted(now time.Time) {
	clear(f.streaks)
	f.denied.retryUnproven(now)
}

// allowed gives those of all that are to be subscribed to on a new connection: all
// that are not denied, and those that are due.
func (f *filterDenials) allowed(all []Subscription, now time.Time) []Subscription {
	return slices.DeleteFunc(slices.Clone(all), func(s Subscription) bool {
		d := f.denied[s.Filter]
		return d != nil && now.Before(d.retryAt)
	})
}

// dueAgain gives those of all that were denied and are due.
func (f *filterDenials) dueAgain(all []Subscription, now time.Time) []Subscription {
	return slices.DeleteFunc(slices.Clone(all), func(s Subscription) bool {
		d := f.denied[s.Filter]
		return d == nil || now.Before(d.retryAt)
	})
}

const (
	aloneAfter = 2  // hang-ups with several messages in flight
	aloneFor   = 32 // so many acknowledgements end sending one at a time
)

// topicDenials finds the topic that the broker hangs up on, and holds its messages;
// or the single message, and has it set aside.
//
// A hang-up with several messages in flight does not say which was to blame. So after
// two such hang-ups, with no connection between them that lasted, messages go one at
// a time. That others were acknowledged before changes nothing: the bad message may be
// behind them each time. A lone message that was answered by a hang-up is a suspect.
// After enough hang-ups on a topic, in a row and without a PUBACK between them, the
// topic is held, and one other message of it is tried, alone. If the broker hangs up
// on that too, the topic is denied: its messages are never given up, they stay in the
// outbox, and later the topic is tried again in the same way. If the broker takes it,
// the topic is free again.
//
// A suspect is set aside once the broker has hung up on it often enough in a row, and
// has taken another message of its topic meanwhile: to go on sending it would hold up
// all others.
type topicDenials struct {
	hangUps  int // with several messages in flight, and no connection that lasted
	alone    int // acknowledgements to go until the whole window is used again
	streaks  map[string]*streak
	denied   denials         // the topics that are held, or were and are tried again
	onTrial  map[string]bool // those of denied that are not held now
	suspects map[string]*suspect
}

// suspect is the lone message of a topic that the broker last hung up on.
type suspect struct {
	id            uint64
	streak        streak
	othersAcked   bool // another message of the topic was acknowledged since
	othersRefused bool // the broker has hung up on another message of the held topic
}

// verdict is what a hang-up says about the message that was alone in flight.
type verdict int

const (
	unclear     verdict = iota
	denied              // its topic is held from now on
	stillDenied         // its topic goes on being held
	poison              // the message is to be set aside
)

// refusedByBroker is the reason for which a message is set aside.
const refusedByBroker = "refused: the broker hangs up on it, but takes others of its topic"

func newTopicDenials() topicDenials {
	return topicDenials{streaks: map[string]*streak{}, denied: denials{}, onTrial: map[string]bool{}, suspects: map[string]*suspect{}}
}

// endOtherStreaks ends the streaks of hang-ups of another kind, whatever this hang-up
// was about.
func (t *topicDenials) endOtherStreaks(kind endKind) {
	for _, s := range t.streaks {
		s.endOther(kind)
	}
	for _, x := range t.suspects {
		x.streak.endOther(kind)
	}
}

// hungUp notes that the broker ended a connection soon after these messages were
// published and before it acknowledged them.
func (t *topicDenials) hungUp(unacked []inFlight, kind endKind, now time.Time) verdict {
	switch len(unacked) {
	case 0:
		return unclear
	case 1:
		return t.hungUpOnLone(unacked[0].topic, unacked[0].id, kind, now)
	}
	t.hangUps++
	if t.hangUps >= aloneAfter {
		t.alone = aloneFor
	}
	return unclear
}

// hungUpOnLone notes a hang-up on a lone message.
func (t *topicDenials) hungUpOnLone(topic string, id uint64, kind endKind, now time.Time) verdict {
	if t.held(topic) {
		return t.trialFailed(topic, kind)
	}
	x := t.suspects[topic]
	if x == nil || x.id != id {
		x = &suspect{id: id}
		t.suspects[topic] = x
	}
	if t.streaks[topic] == nil {
		t.streaks[topic] = &streak{}
	}
	messageEnough, topicEnough := x.streak.add(kind), t.streaks[topic].add(kind)
	switch {
	case x.othersAcked && messageEnough:
		t.forget(topic)
		t.hangUps, t.alone = 0, aloneFor // it may come again in parts
		return poison
	case !topicEnough && !t.denied.deniesAgain(topic, kind):
		return unclear
	}
	t.hangUps, t.alone = 0, 0
	delete(t.streaks, topic)
	delete(t.onTrial, topic)
	t.denied.deny(topic, kind, now)
	x.othersRefused = false // as othersAcked is: else it would have been poison
	return denied
}

// trialFailed notes a hang-up on the message that tries a held topic.
func (t *topicDenials) trialFailed(topic string, kind endKind) verdict {
	if !t.denied.deniesAgain(topic, kind) {
		return unclear
	}
	if x := t.suspects[topic]; x != nil {
		x.othersRefused = true
	}
	return stillDenied
}

// forget forgets what was held against a topic, and its suspect.
func (t *topicDenials) forget(topic string) {
	delete(t.suspects, topic)
	delete(t.streaks, topic)
	delete(t.denied, topic)
	delete(t.onTrial, topic)
}

// acked notes that the broker has taken a message.
func (t *topicDenials) acked(topic string, id uint64, now time.Time) {
	delete(t.streaks, topic)
	if t.alone > 0 {
		t.alone--
	}
	if t.held(topic) {
		t.denied[topic].retryAt = now // it is free again; see release
	} else {
		delete(t.denied, topic)
		delete(t.onTrial, topic)
	}
	if x := t.suspects[topic]; x != nil && x.id != id {
		x.othersAcked = true
	} else {
		delete(t.suspects, topic)
	}
}

// connectionLasted notes that a connection has.
func (t *topicDenials) connectionLasted() {
	t.hangUps = 0
	t.denied.prove()
}

// contradicted notes that a connection ended early for another reason than what was
// published: so may those before it have.
func (t *topicDenials) contradicted(now time.Time) {
	t.hangUps = 0
	clear(t.streaks)
	for _, x := range t.suspects {
		x.streak = streak{}
	}
	t.denied.retryUnproven(now)
}

// isTrial reports whether a message of a held topic is to be sent all the same, alone:
// to learn whether it is the topic or the suspect that is refused.
func (t *topicDenials) isTrial(topic string, id uint64) bool {
	x := t.suspects[topic]
	return x != nil && t.held(topic) && !x.othersRefused && !x.othersAcked && x.id != id
}

// window gives how many messages may be in flight, where there may be most at best.
func (t *topicDenials) window(most int) int {
	if t.alone > 0 {
		return 1
	}
	return most
}

// held reports whether a topic's messages are to stay in the outbox.
func (t *topicDenials) held(topic string) bool { return t.denied[topic] != nil && !t.onTrial[topic] }

// heldTopics gives the topics that are held, sorted.
func (t *topicDenials) heldTopics() []string {
	return slices.DeleteFunc(t.denied.names(), func(topic string) bool { return !t.held(topic) })
}

// due reports whether a held topic may be tried again.
func (t *topicDenials) due(now time.Time) bool {
	for topic, d := range t.denied {
		if t.held(topic) && !now.Before(d.retryAt) {
			return true
		}
	}
	return false
}

// release lets the topics that are due be tried, one message at a time. One more
// hang-up holds them again.
func (t *topicDenials) release(now time.Time) {
	for topic, d := range t.denied {
		if t.held(topic) && !now.Before(d.retryAt) {
			t.onTrial[topic] = true
			t.alone = aloneFor
		}
	}
}
