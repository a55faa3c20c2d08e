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

// topics finds the topic that the broker hangs up on, and holds its mail.
//
// A hang-up with several messages in flight does not say which was to blame,
// so after two such in a row messages go one at a time. A topic whose lone
// message was answered by a hang-up twice is held. Its mail is never given
// up: it stays in the outbox, and after an hour it is tried again, alone.
type topics struct {
	hangUps int // in a row, with several messages in flight
	alone   int // acknowledgements to go until the whole window is used again
	blame   map[string]int
	until   map[string]time.Time // those held
}

func newTopics() topics {
	return topics{blame: map[string]int{}, until: map[string]time.Time{}}
}

// hungUp notes that the broker ended a connection, soon after these topics
// were published to and before it acknowledged them. It gives the topic that
// is held from now on, if any.
func (t *topics) hungUp(inFlight []string, now time.Time) (held string, ok bool) {
	switch len(inFlight) {
	case 0:
		return "", false
	case 1:
		topic := inFlight[0]
		t.blame[topic]++
		if t.blame[topic] < deniedAfter {
			return "", false
		}
		t.until[topic] = now.Add(deniedFor)
		t.hangUps, t.alone = 0, 0
		return topic, true
	}
	t.hangUps++
	if t.hangUps >= deniedAfter {
		t.alone = aloneFor
	}
	return "", false
}

// acked forgets what was held against a topic.
func (t *topics) acked(topic string) {
	delete(t.blame, topic)
	t.hangUps = 0
	if t.alone > 0 {
		t.alone--
	}
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
