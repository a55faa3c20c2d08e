package uplink

import (
	"slices"
	"time"
)

const (
	deniedAfter = 2                // so many hang-ups make a denial
	deniedFor   = time.Hour        // how long until it is tried again
	soon        = 10 * time.Second // a hang-up so long after a publish may be because of it
	steady      = time.Minute      // a connection that lasted so long was no failure
	poisonAfter = 3                // hang-ups on one message, others being taken
	aloneFor    = 32               // so many acknowledgements end sending one at a time
)

// filters remembers which subscriptions the broker does not allow.
type filters struct {
	strikes map[string]int
	until   map[string]time.Time // those left out
}

func newFilters() filters {
	return filters{strikes: map[string]int{}, until: map[string]time.Time{}}
}

// hungUp notes that the broker ended the connection instead of answering a
// SUBSCRIBE, and reports whether the filter is left out from now on.
func (f *filters) hungUp(filter string, now time.Time) bool {
	f.strikes[filter]++
	if f.strikes[filter] < deniedAfter {
		return false
	}
	f.deny(filter, now)
	return true
}

// deny leaves a filter out. When its time has come, one more refusal suffices.
func (f *filters) deny(filter string, now time.Time) {
	f.strikes[filter] = deniedAfter
	f.until[filter] = now.Add(deniedFor)
}

// granted forgets what was held against a filter.
func (f *filters) granted(filter string) {
	delete(f.strikes, filter)
	delete(f.until, filter)
}

// leftOut reports whether a filter is not to be subscribed to now.
func (f *filters) leftOut(filter string, now time.Time) bool {
	return now.Before(f.until[filter])
}

// wanted gives the subscriptions to be made now: all that are not left out, or
// only those among them that once were.
func (f *filters) wanted(all []Subscription, now time.Time, again bool) []Subscription {
	var want []Subscription
	for _, s := range all {
		_, was := f.until[s.Filter]
		if !f.leftOut(s.Filter, now) && (was || !again) {
			want = append(want, s)
		}
	}
	return want
}

// denied gives the filters that the broker did not allow, sorted.
func (f *filters) denied() []string {
	return sortedKeys(f.until)
}

// due reports whether a filter that was left out may be tried again.
func (f *filters) due(now time.Time) bool {
	return anyPast(f.until, now)
}

// topics finds the topic that the broker hangs up on, and holds its mail; or
// the one message, and has it set aside.
//
// A hang-up with several messages in flight does not say which was to blame,
// so after two such in a row messages go one at a time. A lone message that was
// answered by a hang-up is a suspect. After two on a topic without a PUBACK
// between them the topic is held, and one other message of it is tried, alone. If
// the broker hangs up on that too, the topic is denied: its mail is never given
// up, it stays in the outbox, and after an hour it is tried again in the same
// way. If the broker takes it, the topic is free again.
//
// A suspect is set aside once the broker has hung up on it for the third time,
// and has taken another message of its topic meanwhile: to go on sending it
// would hold up all others.
type topics struct {
	hangUps  int // in a row, with several messages in flight
	alone    int // acknowledgements to go until the whole window is used again
	blame    map[string]int
	until    map[string]time.Time // those held
	suspects map[string]suspect
}

// suspect is the lone message of a topic that the broker last hung up on.
type suspect struct {
	id      uint64
	hangUps int
	taken   bool // another message of the topic was acknowledged since
	joined  bool // the broker has hung up on another message of the held topic
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
	return topics{blame: map[string]int{}, until: map[string]time.Time{}, suspects: map[string]suspect{}}
}

// hungUp notes that the broker ended a connection, soon after these messages
// were published and before it acknowledged them.
func (t *topics) hungUp(inFlight []flight, now time.Time) verdict {
	switch len(inFlight) {
	case 0:
		return unclear
	case 1:
		return t.hungUpOn(inFlight[0].topic, inFlight[0].id, now)
	}
	t.hangUps++
	if t.hangUps >= deniedAfter {
		t.alone = aloneFor
	}
	return unclear
}

// hungUpOn notes a hang-up on a lone message.
func (t *topics) hungUpOn(topic string, id uint64, now time.Time) verdict {
	x, is := t.suspects[topic]
	if t.held(topic) {
		x.joined = true
		t.suspects[topic] = x
		return confirmed
	}
	if !is || x.id != id {
		x = suspect{id: id}
	}
	x.hangUps++
	t.suspects[topic] = x
	t.blame[topic]++
	switch {
	case x.taken && x.hangUps >= poisonAfter:
		delete(t.suspects, topic)
		delete(t.blame, topic)
		t.hangUps, t.alone = 0, aloneFor // it may come again in parts
		return poison
	case t.blame[topic] < deniedAfter:
		return unclear
	}
	t.hangUps, t.alone = 0, 0
	t.until[topic] = now.Add(deniedFor)
	x.joined = false // as x.taken is: else it would have been poison
	t.suspects[topic] = x
	return denied
}

// acked notes that the broker has taken a message.
func (t *topics) acked(topic string, id uint64, now time.Time) {
	delete(t.blame, topic)
	t.hangUps = 0
	if t.alone > 0 {
		t.alone--
	}
	x, is := t.suspects[topic]
	switch {
	case !is:
	case x.id == id:
		delete(t.suspects, topic)
	default:
		x.taken = true
		t.suspects[topic] = x
		if t.held(topic) {
			t.until[topic] = now // it is free again; see release
		}
	}
}

// trial reports whether a message of a held topic is to be sent all the same,
// alone: to learn whether it is the topic or the suspect that is refused.
func (t *topics) trial(topic string, id uint64) bool {
	x, is := t.suspects[topic]
	return is && t.held(topic) && !x.joined && !x.taken && x.id != id
}

// blame learns from a hang-up with these in flight. It gives the topic that is
// held because of it.
func (l *Link) blame(inFlight []flight, now time.Time) (topic string, held bool) {
	v := l.topics.hungUp(inFlight, now)
	if v == unclear {
		return "", false
	}
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

// window gives how many messages may be in flight.
func (t *topics) window(most int) int {
	if t.alone > 0 {
		return 1
	}
	return most
}

// held reports whether a topic's mail is to stay where it is.
func (t *topics) held(topic string) bool {
	_, is := t.until[topic]
	return is
}

// denied gives the topics that are held, sorted.
func (t *topics) denied() []string { return sortedKeys(t.until) }

// due reports whether a held topic may be tried again.
func (t *topics) due(now time.Time) bool { return anyPast(t.until, now) }

// release lets the topics that are due be tried, one message at a time. One
// more hang-up holds them again.
func (t *topics) release(now time.Time) {
	for topic, until := range t.until {
		if !now.Before(until) {
			delete(t.until, topic)
			t.blame[topic] = deniedAfter - 1
			t.alone = aloneFor
		}
	}
}

func sortedKeys(m map[string]time.Time) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func anyPast(m map[string]time.Time, now time.Time) bool {
	for _, until := range m {
		if !now.Before(until) {
			return true
		}
	}
	return false
}
