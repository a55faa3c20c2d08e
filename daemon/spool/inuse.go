package spool

import (
	"errors"
	"os"
	"path/filepath"

	"fieldpost/daemon/flock"
)

// InUse tells whether a process has the spool of a directory: the error is a
// [*LockedError] then, and nil where none has or that cannot be known, because
// there is no such directory or this user may not look. It holds the lock itself
// for a moment.
func InUse(dir string) error {
	f, err := os.Open(filepath.Join(dir, lockName))
	if err != nil {
		return nil
	}
	defer f.Close() // and with it goes the lock
	if errors.Is(flock.Take(f), flock.ErrHeld) {
		return &LockedError{Dir: dir, PID: readPID(f)}
	}
	return nil
}
