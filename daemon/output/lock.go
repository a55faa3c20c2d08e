package output

import "time"

// lock is a mutex for which one can wait until some time, and no longer: who
// holds it may be in a call into the kernel that does not return.
type lock chan struct{}

func newLock() lock { return make(lock, 1) }

func (l lock) Lock()   { l <- struct{}{} }
func (l lock) Unlock() { <-l }

// TryLock reports whether it was free, and is the caller's now.
func (l lock) TryLock() bool {
	select {
	case l <- struct{}{}:
		return true
	default:
		return false
	}
}

// LockBefore waits for it until end; the zero time is for ever. It reports
// whether it is the caller's now.
func (l lock) LockBefore(end time.Time) bool {
	if end.IsZero() {
		l.Lock()
		return true
	}
	if l.TryLock() {
		return true
	}
	t := time.NewTimer(time.Until(end))
	defer t.Stop()
	select {
	case l <- struct{}{}:
		return true
	case <-t.C:
		return false
	}
}
