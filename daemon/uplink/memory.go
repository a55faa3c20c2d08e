package uplink

// memory is what the broker has said of our session, connection after connection.
//
// Most brokers say in the CONNACK whether they have kept it. Some keep it and never
// say so (ActiveMQ), so "no session" from a broker that has never said otherwise
// may be a loss or a habit. Such words are held back until the broker says once
// that it has a session: then it is one whose words count, and those held back
// were losses. A message that came from the session proves the contrary.
type memory struct {
	known    bool // there has been a session of ours
	honest   bool // the broker has said that it has it
	mute     bool // it keeps sessions without saying so
	missing  bool // it has said that it has none since the link last stood
	doubtful int  // times that the link stood and missing was true, not yet told as losses
}

// said notes what a CONNACK says. What comes of its connection changes nothing about
// it, and the next one will find the session that this one made.
func (m *memory) said(present bool) {
	m.missing = m.missing || m.known && !present
	m.known = m.known || present
	m.honest = m.honest || present
	m.mute = m.mute && !m.honest
}

// resumed notes that a message came from a session of before, whatever the CONNACK
// has said.
func (m *memory) resumed() {
	if !m.honest {
		m.mute, m.missing, m.doubtful = true, false, 0
	}
}

// stood notes that the link stands. It gives how often the broker has forgotten
// our session, as far as that is known only now, and whether it has perhaps now,
// for the first time.
func (m *memory) stood() (lost int, doubtful bool) {
	if m.missing && !m.mute {
		m.doubtful++
		doubtful = !m.honest && m.doubtful == 1
	}
	m.known, m.missing = true, false
	if m.honest {
		lost, m.doubtful = m.doubtful, 0
	}
	return lost, doubtful
}

// silent reports whether the broker has a session of ours and has never said so.
func (m *memory) silent() bool { return m.known && !m.honest }
