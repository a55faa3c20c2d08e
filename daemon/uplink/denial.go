package uplink

import (
	"slices"
	"time"
)

const (
	firstRetry = time.Minute // time until a denied request is tried again
	maxRetry   = time.Hour   // that time doubles up to this
)

// denial is a topic or a topic filter that is left out because the broker does not allow it.
type denial struct {
	kind    endKind       // of the hang-ups that it is based on
	wait    time.Duration // from the last hang-up until it is tried again
	retryAt time.Time     // the end of wait
	proven  bool          // the broker has said so, or a connection without it has lasted
	said    bool          // the broker has said so
}

// denials are the filters or topics that are left out, by name.
type denials map[string]*denial

// deny leaves a name out, each time for longer.
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

// deniesAgain reports whether a single hang-up is enough to deny again what is being retried.
// It is if it is as strong evidence as the earlier ones.
func (d denials) deniesAgain(name string, kind endKind) bool {
	x := d[name]
	return x != nil && kind >= x.kind
}

// retryUnproven makes everything due that is not proven. The connection should have lasted
// without it and did not.
func (d denials) retryUnproven(now time.Time) {
	for _, x := range d {
		if !x.proven && now.Before(x.retryAt) {
			x.retryAt = now
		}
	}
}

// retryAll makes all denials due.
func (d denials) retryAll(now time.Time) {
	for _, x := range d {
		if now.Before(x.retryAt) {
			x.retryAt = now
		}
	}
}

// prove records that a connection without them has lasted.
func (d denials) prove() {
	for _, x := range d {
		x.proven = true
	}
}

// due reports whether any may be tried again.
func (d denials) due(now time.Time) bool {
	for _, x := range d {
		if !now.Before(x.retryAt) {
			return true
		}
	}
	return false
}

// names returns the names that are left out, sorted.
func (d denials) names() []string {
	var names []string
	for name := range d {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// filterDenials records which topic filters the broker does not let us subscribe to.
type filterDenials struct {
	streaks map[string]*streak // hang-ups instead of a SUBACK, by filter
	denied  denials
}

func newFilterDenials() filterDenials {
	return filterDenials{streaks: map[string]*streak{}, denied: denials{}}
}

// hungUp records that the broker closed the connection instead of answering a SUBSCRIBE. It
// reports whether the filter is left out from now on.
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

// refused records a SUBACK that refuses the subscription.
func (f *filterDenials) refused(filter string, now time.Time) {
	delete(f.streaks, filter)
	d := f.denied.deny(filter, closedByPeer, now)
	d.proven, d.said = true, true
}

// forget clears what is recorded about a filter that was granted or is no longer wanted.
func (f *filterDenials) forget(filter string) {
	delete(f.streaks, filter)
	delete(f.denied, filter)
}

// contradicted records that a connection ended early, but not because of a request. So
// earlier hang-ups may not have been about requests either.
func (f *filterDenials) contradicted(now time.Time) {
	clear(f.streaks)
	f.denied.retryUnproven(now)
}

// allowed returns the subscriptions to make on a new connection: those that are not denied,
// and those whose retry is due.
func (f *filterDenials) allowed(all []Subscription, now time.Time) []Subscription {
	return slices.DeleteFunc(slices.Clone(all), func(s Subscription) bool {
		d := f.denied[s.Filter]
		return d != nil && now.Before(d.retryAt)
	})
}

// dueAgain returns those of all that were denied and whose retry is due.
func (f *filterDenials) dueAgain(all []Subscription, now time.Time) []Subscription {
	return slices.DeleteFunc(slices.Clone(all), func(s Subscription) bool {
		d := f.denied[s.Filter]
		return d == nil || now.Before(d.retryAt)
	})
}

const (
	aloneAfter = 2  // hang-ups with several messages in flight
	aloneFor   = 32 // acknowledgements until more than one is sent at a time
)

// topicDenials finds the topic on which the broker hangs up and holds its messages. If it is
// only a single message, that message is set aside.
//
// A hang-up with several messages in flight does not say which one caused it. After two such
// hang-ups without a connection between them that lasted, messages are sent one at a time. It
// makes no difference that others were acknowledged before: the bad message may be behind
// them each time. A lone message that was answered by a hang-up is a suspect. After enough
// hang-ups on a topic, in a row and without a PUBACK between them, the topic is held, and one
// other message of it is tried alone. If the broker hangs up on that too, the topic is
// denied: its messages are never given up, they stay in the outbox, and later the topic is
// tried again in the same way. If the broker accepts it, the topic is free again.
//
// A suspect is set aside once the broker has hung up on it often enough in a row and has
// accepted another message of its topic meanwhile. To keep sending it would block all others.
type topicDenials struct {
	hangUps  int // hang-ups with several messages in flight, since a connection lasted
	alone    int // acknowledgements left until the whole window is used again
	streaks  map[string]*streak
	denied   denials         // the topics that are held, or were held and are being tried again
	onTrial  map[string]bool // the topics of denied that are being tried, so not held
	suspects map[string]*suspect
}

// suspect is the lone message of a topic on which the broker last hung up.
type suspect struct {
	id            uint64
	streak        streak
	othersAcked   bool // another message of the topic was acknowledged since
	othersRefused bool // the broker has hung up on another message of the held topic
}

// verdict is the conclusion from a hang-up on a lone message.
type verdict int

const (
	unclear     verdict = iota
	denied              // its topic is held from now on
	stillDenied         // its topic stays held
	poison              // the message must be set aside
)

// refusedByBroker is the reason with which a message is set aside.
const refusedByBroker = "refused: the broker hangs up on it, but takes others of its topic"

func newTopicDenials() topicDenials {
	return topicDenials{streaks: map[string]*streak{}, denied: denials{}, onTrial: map[string]bool{}, suspects: map[string]*suspect{}}
}

// endOtherStreaks ends the streaks of hang-ups of other kinds, whatever this hang-up was
// about.
func (t *topicDenials) endOtherStreaks(kind endKind) {
	for _, s := range t.streaks {
		s.endOther(kind)
	}
	for _, x := range t.suspects {
		x.streak.endOther(kind)
	}
}

// hungUp records that the broker closed a connection soon after these messages were published
// and before it acknowledged them.
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

// hungUpOnLone records a hang-up on a lone message.
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
	x.othersRefused = false // othersAcked is false too, or the message would be poison
	return denied
}

// trialFailed records a hang-up on the message that tries a held topic.
func (t *topicDenials) trialFailed(topic string, kind endKind) verdict {
	if !t.denied.deniesAgain(topic, kind) {
		return unclear
	}
	if x := t.suspects[topic]; x != nil {
		x.othersRefused = true
	}
	return stillDenied
}

// forget clears what is recorded about a topic, and its suspect.
func (t *topicDenials) forget(topic string) {
	delete(t.suspects, topic)
	delete(t.streaks, topic)
	delete(t.denied, topic)
	delete(t.onTrial, topic)
}

// acked records that the broker has accepted a message.
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

// connectionLasted records that a connection has lasted.
func (t *topicDenials) connectionLasted() {
	t.hangUps = 0
	t.denied.prove()
}

// contradicted records that a connection ended early, but not because of a message. So
// earlier hang-ups may not have been about messages either.
func (t *topicDenials) contradicted(now time.Time) {
	t.hangUps = 0
	clear(t.streaks)
	for _, x := range t.suspects {
		x.streak = streak{}
	}
	t.denied.retryUnproven(now)
}

// isTrial reports whether a message of a held topic must be sent anyway, alone, to find out
// whether the broker refuses the topic or only the suspect.
func (t *topicDenials) isTrial(topic string, id uint64) bool {
	x := t.suspects[topic]
	return x != nil && t.held(topic) && !x.othersRefused && !x.othersAcked && x.id != id
}

// window returns how many messages may be in flight; most is the normal limit.
func (t *topicDenials) window(most int) int {
	if t.alone > 0 {
		return 1
	}
	return most
}

// held reports whether a topic's messages must stay in the outbox.
func (t *topicDenials) held(topic string) bool { return t.denied[topic] != nil && !t.onTrial[topic] }

// heldTopics returns the held topics, sorted.
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

// release tries the held topics that are due, one message at a time. One more hang-up holds
// them again.
func (t *topicDenials) release(now time.Time) {
	for topic, d := range t.denied {
		if t.held(topic) && !now.Before(d.retryAt) {
			t.onTrial[topic] = true
			t.alone = aloneFor
		}
	}
}
