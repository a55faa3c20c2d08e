package uplink

// session is what the broker has said of our MQTT session (MQTT 3.1.1, section
// 3.1.2.4), which outlives connections. Run's goroutine.
//
// Most brokers say in the CONNACK whether they have kept it. Some keep it and never
// say so (ActiveMQ), so "no session" from a broker that has never said otherwise may
// be a loss or a habit. It is not counted as a loss until the broker says once that it
// has a session: then it is a broker that reports, and what was not counted was lost.
// A message that came from the session proves the contrary.
type session struct {
	known        bool // there has been a session of ours
	reports      bool // the broker has said that it has it
	silentlyKept bool // it keeps sessions without saying so
	absent       bool // it has said that it has none since the link last stood
	unconfirmed  int  // times that the link stood and absent was true, not yet counted as losses
}

// connack notes the session present flag of a CONNACK. What comes of its connection
// changes nothing about it, and the next one will find the session that this one made.
func (s *session) connack(present bool) {
	s.absent = s.absent || s.known && !present
	s.known = s.known || present
	s.reports = s.reports || present
	s.silentlyKept = s.silentlyKept && !s.reports
}

// noteResumed notes that a message came from an earlier session, whatever the CONNACK
// has said.
func (s *session) noteResumed() {
	if !s.reports {
		s.silentlyKept, s.absent, s.unconfirmed = true, false, 0
	}
}

// established notes that the link stands. It gives how often the broker has forgotten
// our session, as far as that is known only now, and whether it has perhaps now, for
// the first time.
func (s *session) established() (lost int, doubtful bool) {
	if s.absent && !s.silentlyKept {
		s.unconfirmed++
		doubtful = !s.reports && s.unconfirmed == 1
	}
	s.known, s.absent = true, false
	if s.reports {
		lost, s.unconfirmed = s.unconfirmed, 0
	}
	return lost, doubtful
}

// keptSilently reports whether the broker has a session of ours and has never said so.
func (s *session) keptSilently() bool { return s.known && !s.reports }
