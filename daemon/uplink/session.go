package uplink

// session is what the broker has said about our MQTT session (MQTT 3.1.1, section 3.1.2.4),
// which outlives connections. Only Run's goroutine uses it.
//
// Most brokers say in the CONNACK whether they have kept the session. Some keep it and never
// say so (ActiveMQ). So "no session" from a broker that has never reported one may be a loss,
// or normal for that broker. It is not counted as a loss until the broker reports a session
// for the first time: then it is known to report them, and the uncounted ones were losses. A
// message that comes from the session proves the contrary.
type session struct {
	known        bool // we have had a session
	reports      bool // the broker has reported a session
	silentlyKept bool // it keeps sessions without reporting them
	absent       bool // it has reported no session since the link was last established
	unconfirmed  int  // times that the link was established while absent, not counted as losses yet
}

// connack records the session present flag of a CONNACK. Whatever happens to that connection,
// the next one will find the session that this one has made.
func (s *session) connack(present bool) {
	s.absent = s.absent || s.known && !present
	s.known = s.known || present
	s.reports = s.reports || present
	s.silentlyKept = s.silentlyKept && !s.reports
}

// noteResumed records that a message came from an earlier session, whatever the CONNACK has
// said.
func (s *session) noteResumed() {
	if !s.reports {
		s.silentlyKept, s.absent, s.unconfirmed = true, false, 0
	}
}

// established records that the link is established. It returns how many losses of our session
// are known only now, and whether the broker has perhaps lost it, for the first time.
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

// keptSilently reports whether the broker has kept a session of ours without ever reporting
// it.
func (s *session) keptSilently() bool { return s.known && !s.reports }
