package spool

import (
	"sync"
	"time"
)

// linger lets Ready be late to tell of samples, so that those that are taken at about the
// same time are sent together and wake the sender once. The lock of the store guards it.
type linger struct {
	lock  sync.Locker // of the store
	tell  func()
	most  time.Duration // 0: nothing waits
	first bool          // no sample was appended since the last Rewind; the next one does not wait
	waits bool          // a sample was appended, and Ready has not told of it
	timer *time.Timer   // calls expire; nil until something waits
}

// holdLocked reports whether Ready is to tell of a sample later.
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
		l.timer = time.AfterFunc(l.most, l.expire)
	} else {
		l.timer.Reset(l.most)
	}
	return true
}

// endLocked ends the wait: Ready is told anyway, or there is nothing to tell of any more.
func (l *linger) endLocked() {
	if l.waits {
		l.waits = false
		l.timer.Stop()
	}
}

// expire tells of the samples that have waited. It is called by the timer.
func (l *linger) expire() {
	l.lock.Lock()
	defer l.lock.Unlock()
	if l.waits {
		l.waits = false
		l.tell()
	}
}

// SetLinger sets how long Ready may be late to tell of samples that are appended, so that
// those of about the same time are sent together; 0 is not at all, as at the start. It
// changes nothing else: Next returns them from the moment they are appended, and whatever
// else Ready tells of ends the wait. The first sample after a Rewind does not wait, so that a
// new connection shows at once that readings arrive. Any goroutine.
func (s *Spool) SetLinger(most time.Duration) {
	st := s.st
	st.mu.Lock()
	st.linger.most = most
	st.mu.Unlock()
	s.Flush()
}

// Flush has Ready tell now of samples that wait for others. Any goroutine.
func (s *Spool) Flush() {
	st := s.st
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.linger.waits {
		st.linger.endLocked()
		st.ready.Set()
	}
}

// readyLocked has Ready tell of an entry of a class that was appended.
func (st *store) readyLocked(c Class) {
	if c == Samples && st.linger.holdLocked() {
		return
	}
	st.linger.endLocked()
	st.ready.Set()
}
