package uplink

import (
	"errors"
	"io"
	"slices"
	"time"
)

const (
	retryFirst = time.Minute      // how long until what was denied is tried again
	retryLast  = time.Hour        // which doubles up to this
	soon       = 10 * time.Second // a hang-up so long after a question may be its answer
	steady     = time.Minute      // a connection that lasted so long was no failure
)

// ending is how a connection ended, as far as that tells a broker's answer from
// a fault of the network.
type ending int

const (
	byNetwork ending = iota // nobody hung up on anything: silence, no way, or our own doing
	byReset                 // reset, or cut off within a packet: a network's way, seldom a broker's
	byBroker                // closed in order between two packets, as AWS IoT Core denies
)

// enough is how many hang-ups of one kind in a row make a denial. AWS IoT Core
// closes in order. A broker that closes before it has read all that we sent
// resets; but so does every network now and then.
var enough = [...]int{byReset: 8, byBroker: 3}

// endingOf says how a connection ended; remote says that the other side did.
func endingOf(err error, remote bool) ending {
	switch {
	case !remote:
		return byNetwork
	case errors.Is(err, io.EOF) || isAlert(err):
		return byBroker
	}
	return byReset
}

// row counts hang-ups of one kind that followed one another.
type row struct {
	how ending
	n   int
}

// add counts one more and reports whether they are enough.
func (r *row) add(how ending) bool {
	if r.how != how {
		*r = row{how: how}
	}
	r.n++
	return r.n >= enough[how]
}

// interrupt ends a row of another kind.
func (r *row) interrupt(how ending) {
	if r.how != how {
		*r = row{}
	}
}

// ban is what is left out because the broker does not allow it.
type ban struct {
	how    ending        // of the hang-ups that it rests on
	wait   time.Duration // from the last denial until it is tried again
	until  time.Time     // the end of that
	proven bool          // the broker has said so, or without it a connection has lasted
}

// bans are filters or topics that are left out.
type bans map[string]*ban

// add leaves something out, each time for longer.
func (b bans) add(name string, how ending, now time.Time) *ban {
	x := b[name]
	if x == nil {
		x = &ban{how: how, wait: retryFirst / 2}
		b[name] = x
	}
	x.wait = min(2*x.wait, retryLast)
	x.until = now.Add(x.wait)
	return x
}

// again reports whether a hang-up denies again what is tried anew: one suffices
// if it is as good as those before.
func (b bans) again(name string, how ending) bool {
	x := b[name]
	return x != nil && how >= x.how
}

// doubt has everything tried again at once that is left out and not proven:
// the connection should have lasted without it, and has not.
func (b bans) doubt(now time.Time) {
	for _, x := range b {
		if !x.proven && now.Before(x.until) {
			x.until = now
		}
	}
}

// retry has everything tried again at once that is left out.
func (b bans) retry(now time.Time) {
	for _, x := range b {
		if now.Before(x.until) {
			x.until = now
		}
	}
}

// prove notes that a connection without them has lasted.
func (b bans) prove() {
	for _, x := range b {
		x.proven = true
	}
}

// due reports whether anything may be tried again.
func (b bans) due(now time.Time) bool {
	for _, x := range b {
		if !now.Before(x.until) {
			return true
		}
	}
	return false
}

// names gives what is left out, sorted.
func (b bans) names() []string {
	var names []string
	for name := range b {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
