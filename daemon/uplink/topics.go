package uplink

import (
	"time"
)

const (
	aloneAfter = 2  // hang-ups with several messages in flight
	aloneFor   = 32 // so many acknowledgements end sending one at a time
)

// topics finds the topic that the broker hangs up on, and holds its mail; or
// the one message, and has it set aside.
//
// A hang-up with several messages in flight does not say which was to blame,
// so after two such, with no connection between them that lasted, messages go one
// at a time. That others were acknowledged before changes nothing: the poison
// may be behind them each time. A lone message that was
// answered by a hang-up is a suspect. After enough on a topic, in a row and
// without a PUBACK between them, the topic is held, and one other message of it is
// tried, alone. If the broker hangs up on that too, the topic is denied: its
// mail is never given up, it stays in the outbox, and later it is tried again in
// the same way. If the broker takes it, the topic is free again.
//
// A suspect is set aside once the broker has hung up on it often enough in a
// row, and has taken another message of its topic meanwhile: to go on sending
// it would hold up all others.
type topicDenials struct {
	hangUps  int // with several messages in flight, and no connection that lasted
	alone    int // acknowledgements to go until the whole window is used again
	streaks    map[string]*streak
	denied     denials            // the topics that are held, or were and are tried again
	onTrial    map[string]bool // those of bans that are not held now
	suspects map[string]*suspect
}

// suspect is the lone message of a topic that the broker last hung up on.
type suspect struct {
	id     uint64
	streak    streak
	othersAcked  bool // another message of the topic was acknowledged since
	othersRefused bool // the broker has hung up on another message of the held topic
}

// verdict is what a hang-up says about the message that was alone in flight.
type verdict int

const (
	unclear   verdict = iota
	denied            // its topic is held from now on
	stillDenied         // its topic goes on being held
	poison            // the message is to be set aside
)

// refusedByBroker is the reason for which a message is set aside.
const refusedByBroker = "refused: the broker hangs up on it, and takes others of its topic"

func newTopicDenials() topicDenials {
	return topicDenials{streaks: map[string]*streak{}, denied: denials{}, onTrial: map[string]bool{}, suspects: map[string]*suspect{}}
}

// interrupt ends what is not in a row with a hang-up of this kind, whatever that
// one was about.
func (t *topicDenials) endOtherStreaks(how endKind) {
	for _, r := range t.streaks {
		r.interrupt(how)
	}
	for _, x := range t.suspects {
		x.streak.interrupt(how)
	}
}

// hungUp notes that the broker ended a connection, soon after these messages
// were published and before it acknowledged them.
func (t *topicDenials) hungUp(inFlight []inFlight, how endKind, now time.Time) verdict {
	switch len(inFlight) {
	case 0:
		return unclear
	case 1:
		return t.hungUpOnLone(inFlight[0].topic, inFlight[0].id, how, now)
	}
	t.hangUps++
	if t.hangUps >= aloneAfter {
		t.alone = aloneFor
	}
	return unclear
}

// hungUpOn notes a hang-up on a lone message.
func (t *topicDenials) hungUpOnLone(topic string, id uint64, how endKind, now time.Time) verdict {
	if t.held(topic) {
		return t.trialFailed(topic, how)
	}
	x := t.suspects[topic]
	if x == nil || x.id != id {
		x = &suspect{id: id}
		t.suspects[topic] = x
	}
	if t.streaks[topic] == nil {
		t.streaks[topic] = &streak{}
	}
	often, all := x.streak.add(how), t.streaks[topic].add(how)
	switch {
	case x.othersAcked && often:
		t.forget(topic)
		t.hangUps, t.alone = 0, aloneFor // it may come again in parts
		return poison
	case !all && !t.denied.deniesAgain(topic, how):
		return unclear
	}
	t.hangUps, t.alone = 0, 0
	delete(t.streaks, topic)
	delete(t.onTrial, topic)
	t.denied.deny(topic, how, now)
	x.othersRefused = false // as x.taken is: else it would have been poison
	return denied
}

// triedInVain notes a hang-up on the message that tries a held topic.
func (t *topicDenials) trialFailed(topic string, how endKind) verdict {
	if !t.denied.deniesAgain(topic, how) {
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

// lasted notes that a connection has.
func (t *topicDenials) lasted() {
	t.hangUps = 0
	t.denied.prove()
}

// contradicted notes that a connection ended early and not because of what was
// published: so may those before it have.
func (t *topicDenials) contradicted(now time.Time) {
	t.hangUps = 0
	clear(t.streaks)
	for _, x := range t.suspects {
		x.streak = streak{}
	}
	t.denied.retryUnproven(now)
}

// trial reports whether a message of a held topic is to be sent all the same,
// alone: to learn whether it is the topic or the suspect that is refused.
func (t *topicDenials) isTrial(topic string, id uint64) bool {
	x := t.suspects[topic]
	return x != nil && t.held(topic) && !x.othersRefused && !x.othersAcked && x.id != id
}

// window gives how many messages may be in flight.
func (t *topicDenials) window(most int) int {
	if t.alone > 0 {
		return 1
	}
	return most
}

// held reports whether a topic's mail is to stay where it is.
func (t *topicDenials) held(topic string) bool { return t.denied[topic] != nil && !t.onTrial[topic] }

// denied gives the topics that are held, sorted.
func (t *topicDenials) heldTopics() []string {
	var held []string
	for _, topic := range t.denied.names() {
		if t.held(topic) {
			held = append(held, topic)
		}
	}
	return held
}

// due reports whether a held topic may be tried again.
func (t *topicDenials) due(now time.Time) bool {
	for topic, b := range t.denied {
		if t.held(topic) && !now.Before(b.retryAt) {
			return true
		}
	}
	return false
}

// release lets the topics that are due be tried, one message at a time. One
// more hang-up holds them again.
func (t *topicDenials) release(now time.Time) {
	for topic, b := range t.denied {
		if t.held(topic) && !now.Before(b.retryAt) {
			t.onTrial[topic] = true
			t.alone = aloneFor
		}
	}
}
