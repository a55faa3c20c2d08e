package uplink

import (
	"context"
	"errors"
	"time"

	"fieldpost/daemon/topic"
)

// Filters that the session may hold of an earlier configuration are given up on the
// first connection that stands. To do so needs no permission on AWS IoT Core, and
// UNSUBSCRIBE is answered whether or not the session holds the filter (MQTT 3.1.1,
// section 3.10.4); but a broker that hangs up on it, or says nothing, must not be
// asked for ever: it is no harm to keep what is passed over.

// stale is a filter that is to be given up.
type stale struct {
	filter string
	row    row // hang-ups in a row, instead of an UNSUBACK
}

// staleOf gives those that can be asked for, each once, but for the filters that
// are wanted.
func staleOf(c Config) (all []stale) {
	seen := map[string]bool{}
	for _, s := range c.Subscriptions {
		seen[s.Filter] = true
	}
	for _, f := range c.Unsubscribe {
		if !seen[f] && topic.CheckFilter(f) == nil {
			seen[f] = true
			all = append(all, stale{filter: f})
		}
	}
	return all
}

// giveUp gives up stale filters, one at a time, while nothing is in flight. A clean
// session has none.
func (s *session) giveUp(ctx context.Context) error {
	l := s.l
	for len(l.stale) > 0 {
		filter := l.stale[0].filter
		if !l.cfg.Clean {
			s.phase, s.subject, s.asked = Unsubscribing, filter, time.Now()
			err := s.unsubscribe(ctx, filter)
			if errors.Is(err, errNoSuback) {
				l.leaveIt("says nothing")
			}
			if err != nil || ctx.Err() != nil {
				return err
			}
			l.cfg.Log.Info("subscription of an earlier configuration is ended", "filter", shown(filter))
		}
		l.stale = l.stale[1:]
		if l.cfg.Unsubscribed != nil {
			l.cfg.Unsubscribed(filter)
		}
	}
	s.phase, s.subject = Idle, ""
	return nil
}

// keptAfter notes that the broker hung up instead of answering an UNSUBSCRIBE. After
// as many in a row as deny a subscription it is not asked any more by this process.
func (l *Link) keptAfter(how ending) {
	if l.stale[0].row.add(how) {
		l.leaveIt("hangs up")
	}
}

// leaveIt has the session keep the first stale filter.
func (l *Link) leaveIt(why string) {
	l.cfg.Log.Warn("subscription of an earlier configuration stays: the broker does not end it; what it brings is passed over", "filter", shown(l.stale[0].filter), "broker", why)
	l.stale = l.stale[1:]
}
