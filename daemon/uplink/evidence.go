package uplink

import (
	"errors"
	"io"
	"slices"
	"time"
)

const (
	firstRetry = time.Minute      // how long until what was denied is tried again
	maxRetry  = time.Hour        // which doubles up to this
	answerWithin       = 10 * time.Second // a hang-up so long after a question may be its answer
	stableAfter     = time.Minute      // a connection that lasted so long was no failure
)

// ending is how a connection ended, as far as that tells a broker's answer from
// a fault of the network.
type endKind int

const (
	brokenByNetwork endKind = iota // nobody hung up on anything: silence, no way, or our own doing
	resetByPeer                 // reset, or cut off within a packet: a network's way, seldom a broker's
	closedByPeer                // closed in order between two packets, as AWS IoT Core denies
)

// enough is how many hang-ups of one kind in a row make a denial. AWS IoT Core
// closes in order. A broker that closes before it has read all that we sent
// resets; but so does every network now and then.
var denyAfter = [...]int{resetByPeer: 8, closedByPeer: 3}

// endingOf says how a connection ended; remote says that the other side did.
func kindOfEnd(err error, remote bool) endKind {
	switch {
	case !remote:
		return brokenByNetwork
	case errors.Is(err, io.EOF) || isAlert(err):
		return closedByPeer
	}
	return resetByPeer
}

// row counts hang-ups of one kind that followed one another.
type streak struct {
	kind endKind
	n   int
}

// add counts one more and reports whether they are enough.
func (r *streak) add(how endKind) bool {
	if r.kind != how {
		*r = streak{kind: how}
	}
	r.n++
	return r.n >= denyAfter[how]
}

// interrupt ends a row of another kind.
func (r *streak) interrupt(how endKind) {
	if r.kind != how {
		*r = streak{}
	}
}

// ban is what is left out because the broker does not allow it.
type denial struct {
	kind    endKind        // of the hang-ups that it rests on
	wait   time.Duration // from the last denial until it is tried again
	retryAt  time.Time     // the end of that
	proven bool          // the broker has said so, or without it a connection has lasted
}

// bans are filters or topics that are left out.
type denials map[string]*denial

// add leaves something out, each time for longer.
func (b denials) deny(name string, how endKind, now time.Time) *denial {
	x := b[name]
	if x == nil {
		x = &denial{kind: how, wait: firstRetry / 2}
		b[name] = x
	}
	x.wait = min(2*x.wait, maxRetry)
	x.retryAt = now.Add(x.wait)
	return x
}

// again reports whether a hang-up denies again what is tried anew: one suffices
// if it is as good as those before.
func (b denials) deniesAgain(name string, how endKind) bool {
	x := b[name]
	return x != nil && how >= x.kind
}

// doubt has everything tried again at once that is left out and not proven:
// the connection should have lasted without it, and has not.
func (b denials) retryUnproven(now time.Time) {
	for _, x := range b {
		if !x.proven && now.Before(x.retryAt) {
			x.retryAt = now
		}
	}
}

// retry has everything tried again at once that is left out.
func (b denials) retryAll(now time.Time) {
	for _, x := range b {
		if now.Before(x.retryAt) {
			x.retryAt = now
		}
	}
}

// prove notes that a connection without them has lasted.
func (b denials) prove() {
	for _, x := range b {
		x.proven = true
	}
}

// due reports whether anything may be tried again.
func (b denials) due(now time.Time) bool {
	for _, x := range b {
		if !now.Before(x.retryAt) {
			return true
		}
	}
	return false
}

// names gives what is left out, sorted.
func (b denials) names() []string {
	var names []string
	for name := range b {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
