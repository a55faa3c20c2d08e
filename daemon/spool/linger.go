package spool

import (
	"fieldpost/daemon/wake"
	"sync"
	"time"
)

// linger delays the signal of Ready for samples, so that samples of about the same time are
// sent together and wake the sender once. The lock of the store guards it.
type linger struct {
	lock  sync.Locker // of the store
	tell  func()
	most  time.Duration // 0: no delay
	first bool          // no sample was appended since the last Rewind, so the next one is not delayed
	waits bool          // a sample was appended and Ready is not signalled yet
	timer *wake.Timer   // calls expire; nil before the first delay
}

// holdLocked reports whether the signal for a sample must be delayed.
func (l *linger) holdLocked() bool {
	if l.most == 0 || l.first {
		l.first = false
		return false
	}
	if l.waits {
		return true
	}
	l.waits = true
	if l.timer == nil {
		l.timer = wake.AfterFunc(l.most, l.expire)
	} else {
		l.timer.Reset(l.most)
	}
	return true
}

// endLocked ends the delay: Ready is signalled anyway, or there is nothing left to signal.
func (l *linger) endLocked() {
	if l.waits {
		l.waits = false
		l.timer.Stop()
	}
}

// expire signals Ready for the delayed samples. The timer calls it.
func (l *linger) expire() {
	l.lock.Lock()
	defer l.lock.Unlock()
	if l.waits {
		l.waits = false
		l.tell()
	}
}

// SetLinger sets how long the signal of Ready may be delayed after a sample is appended, so
// that samples of about the same time are sent together; 0, the initial value, is no delay.
// It changes nothing else: Next returns samples as soon as they are appended, and any other
// signal of Ready ends the delay. The first sample after a Rewind is not delayed, so that a
// new connection shows immediately that readings arrive. Any goroutine.
func (s *Spool) SetLinger(most time.Duration) {
	st := s.st
	st.mu.Lock()
	st.linger.most = most
	st.mu.Unlock()
	s.Flush()
}

// Flush signals Ready now for delayed samples. Any goroutine.
func (s *Spool) Flush() {
	st := s.st
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.linger.waits {
		st.linger.endLocked()
		st.ready.Set()
	}
}

// readyLocked signals Ready for an appended entry of a class, or delays the signal.
func (st *store) readyLocked(c Class) {
	if c == Samples && st.linger.holdLocked() {
		return
	}
	st.linger.endLocked()
	st.ready.Set()
}
