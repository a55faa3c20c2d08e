package durable

import (
	"errors"
	"os"
	"time"
)

const (
	// lockPause is how long Lock waits before it tries again. [Locked] holds a
	// shared lock for some microseconds.
	lockPause = 5 * time.Millisecond
	// lockTries bounds the wait to about a second.
	lockTries = 200
)

// Lock locks an open file. The error is [ErrLocked] when another opening of it is
// locked. Lock does not wait for that one, but it waits, for about a second at most,
// for those who only ask with [Locked]: a daemon that starts while somebody asks must
// not fail. Any goroutine.
func Lock(f *os.File) error {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for range lockTries {
		<-pause.C
		if err := tryLock(f); !errors.Is(err, ErrLocked) {
			return err
		}
		if locked, err := Locked(f); err != nil {
			return err
		} else if locked {
			return ErrLocked
		}
		pause.Reset(lockPause)
	}
	return ErrLocked
}

// Locked reports whether an open file is locked with [Lock] by way of another opening
// of it. Do not call it with a file that the caller itself has locked: that ends the
// lock. Any goroutine.
//
// Only a lock of one's own can tell, so Locked takes a shared lock for a moment. Two
// callers do not see each other.
func Locked(f *os.File) (bool, error) {
	switch err := tryLockShared(f); {
	case errors.Is(err, ErrLocked):
		return true, nil
	case err != nil:
		return false, err
	}
	return false, unlock(f)
}
