package spool

import (
	"errors"
	"os"
	"path/filepath"

	"fieldpost/daemon/durable"
	"fieldpost/daemon/regular"
)

// InUse tells whether a process has the spool of a directory: the error is a
// [*LockedError] then, and nil where none has or that cannot be known, because
// there is no such directory or this user may not look. It holds the lock itself
// for a moment.
func InUse(dir string) error {
	if f, err := regular.OpenUnlinked(filepath.Join(dir, lockName), os.O_RDONLY, 0); err == nil {
		defer f.Close() // and with it goes the lock
		if errors.Is(durable.Lock(f), durable.ErrLocked) {
			return &LockedError{Dir: dir, PID: readPID(f)}
		}
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	if lockable(d) && errors.Is(durable.Lock(d), durable.ErrLocked) { // somebody removed the file
		return &LockedError{Dir: dir}
	}
	return nil
}
