package uplink

// memory is what the broker has said of our session, connection after connection.
//
// Most brokers say in the CONNACK whether they have kept it. Some keep it and never
// say so (ActiveMQ), so "no session" from a broker that has never said otherwise
// may be a loss or a habit. Such words are held back until the broker says once
// that it has a session: then it is one whose words count, and those held back
// were losses. A message that came from the session proves the contrary.
type session struct {
	known    bool // there has been a session of ours
	reports   bool // the broker has said that it has it
	silentlyKept     bool // it keeps sessions without saying so
	absent  bool // it has said that it has none since the link last stood
	unconfirmed int  // times that the link stood and missing was true, not yet told as losses
}

// said notes what a CONNACK says. What comes of its connection changes nothing about
// it, and the next one will find the session that this one made.
func (m *session) connack(present bool) {
	m.absent = m.absent || m.known && !present
	m.known = m.known || present
	m.reports = m.reports || present
	m.silentlyKept = m.silentlyKept && !m.reports
}

// resumed notes that a message came from a session of before, whatever the CONNACK
// has said.
func (m *session) noteResumed() {
	if !m.reports {
		m.silentlyKept, m.absent, m.unconfirmed = true, false, 0
	}
}

// stood notes that the link stands. It gives how often the broker has forgotten
// our session, as far as that is known only now, and whether it has perhaps now,
// for the first time.
func (m *session) established() (lost int, doubtful bool) {
	if m.absent && !m.silentlyKept {
		m.unconfirmed++
		doubtful = !m.reports && m.unconfirmed == 1
	}
	m.known, m.absent = true, false
	if m.reports {
		lost, m.unconfirmed = m.unconfirmed, 0
	}
	return lost, doubtful
}

// silent reports whether the broker has a session of ours and has never said so.
func (m *session) keptSilently() bool { return m.known && !m.reports }
