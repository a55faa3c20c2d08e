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
type topics struct {
	hangUps  int // with several messages in flight, and no connection that lasted
	alone    int // acknowledgements to go until the whole window is used again
	blame    map[string]*row
	bans     bans            // the topics that are held, or were and are tried again
	tried    map[string]bool // those of bans that are not held now
	suspects map[string]*suspect
}

// suspect is the lone message of a topic that the broker last hung up on.
type suspect struct {
	id     uint64
	row    row
	taken  bool // another message of the topic was acknowledged since
	joined bool // the broker has hung up on another message of the held topic
}

// verdict is what a hang-up says about the message that was alone in flight.
type verdict int

const (
	unclear   verdict = iota
	denied            // its topic is held from now on
	confirmed         // its topic goes on being held
	poison            // the message is to be set aside
)

// refusedByBroker is the reason for which a message is set aside.
const refusedByBroker = "refused: the broker hangs up on it, and takes others of its topic"

func newTopics() topics {
	return topics{blame: map[string]*row{}, bans: bans{}, tried: map[string]bool{}, suspects: map[string]*suspect{}}
}

// interrupt ends what is not in a row with a hang-up of this kind, whatever that
// one was about.
func (t *topics) interrupt(how ending) {
	for _, r := range t.blame {
		r.interrupt(how)
	}
	for _, x := range t.suspects {
		x.row.interrupt(how)
	}
}

// hungUp notes that the broker ended a connection, soon after these messages
// were published and before it acknowledged them.
func (t *topics) hungUp(inFlight []flight, how ending, now time.Time) verdict {
	switch len(inFlight) {
	case 0:
		return unclear
	case 1:
		return t.hungUpOn(inFlight[0].topic, inFlight[0].id, how, now)
	}
	t.hangUps++
	if t.hangUps >= aloneAfter {
		t.alone = aloneFor
	}
	return unclear
}

// hungUpOn notes a hang-up on a lone message.
func (t *topics) hungUpOn(topic string, id uint64, how ending, now time.Time) verdict {
	if t.held(topic) {
		return t.triedInVain(topic, how)
	}
	x := t.suspects[topic]
	if x == nil || x.id != id {
		x = &suspect{id: id}
		t.suspects[topic] = x
	}
	if t.blame[topic] == nil {
		t.blame[topic] = &row{}
	}
	often, all := x.row.add(how), t.blame[topic].add(how)
	switch {
	case x.taken && often:
		t.forget(topic)
		t.hangUps, t.alone = 0, aloneFor // it may come again in parts
		return poison
	case !all && !t.bans.again(topic, how):
		return unclear
	}
	t.hangUps, t.alone = 0, 0
	delete(t.blame, topic)
	delete(t.tried, topic)
	t.bans.add(topic, how, now)
	x.joined = false // as x.taken is: else it would have been poison
	return denied
}

// triedInVain notes a hang-up on the message that tries a held topic.
func (t *topics) triedInVain(topic string, how ending) verdict {
	if !t.bans.again(topic, how) {
		return unclear
	}
	if x := t.suspects[topic]; x != nil {
		x.joined = true
	}
	return confirmed
}

// forget forgets what was held against a topic, and its suspect.
func (t *topics) forget(topic string) {
	delete(t.suspects, topic)
	delete(t.blame, topic)
	delete(t.bans, topic)
	delete(t.tried, topic)
}

// acked notes that the broker has taken a message.
func (t *topics) acked(topic string, id uint64, now time.Time) {
	delete(t.blame, topic)
	if t.alone > 0 {
		t.alone--
	}
	if t.held(topic) {
		t.bans[topic].until = now // it is free again; see release
	} else {
		delete(t.bans, topic)
		delete(t.tried, topic)
	}
	if x := t.suspects[topic]; x != nil && x.id != id {
		x.taken = true
	} else {
		delete(t.suspects, topic)
	}
}

// lasted notes that a connection has.
func (t *topics) lasted() {
	t.hangUps = 0
	t.bans.prove()
}

// contradicted notes that a connection ended early and not because of what was
// published: so may those before it have.
func (t *topics) contradicted(now time.Time) {
	t.hangUps = 0
	clear(t.blame)
	for _, x := range t.suspects {
		x.row = row{}
	}
	t.bans.doubt(now)
}

// trial reports whether a message of a held topic is to be sent all the same,
// alone: to learn whether it is the topic or the suspect that is refused.
func (t *topics) trial(topic string, id uint64) bool {
	x := t.suspects[topic]
	return x != nil && t.held(topic) && !x.joined && !x.taken && x.id != id
}

// window gives how many messages may be in flight.
func (t *topics) window(most int) int {
	if t.alone > 0 {
		return 1
	}
	return most
}

// held reports whether a topic's mail is to stay where it is.
func (t *topics) held(topic string) bool { return t.bans[topic] != nil && !t.tried[topic] }

// denied gives the topics that are held, sorted.
func (t *topics) denied() []string {
	var held []string
	for _, topic := range t.bans.names() {
		if t.held(topic) {
			held = append(held, topic)
		}
	}
	return held
}

// due reports whether a held topic may be tried again.
func (t *topics) due(now time.Time) bool {
	for topic, b := range t.bans {
		if t.held(topic) && !now.Before(b.until) {
			return true
		}
	}
	return false
}

// release lets the topics that are due be tried, one message at a time. One
// more hang-up holds them again.
func (t *topics) release(now time.Time) {
	for topic, b := range t.bans {
		if t.held(topic) && !now.Before(b.until) {
			t.tried[topic] = true
			t.alone = aloneFor
		}
	}
}
