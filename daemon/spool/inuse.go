package spool

import (
	"os"
	"path/filepath"

	"fieldpost/daemon/durable"
	"fieldpost/daemon/regular"
)

// InUse reports whether a process has the spool of a directory. The error is a
// [*LockedError] then. It is nil where no process has it, and where that cannot be
// known, because there is no such directory or this user may not open it. A daemon
// that starts at the same moment is not disturbed.
func InUse(dir string) error {
	if f, err := regular.OpenUnlinked(filepath.Join(dir, lockName), os.O_RDONLY, 0); err == nil {
		defer f.Close()
		if locked, _ := durable.Locked(f); locked {
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
	if lockable(d) {
		if locked, _ := durable.Locked(d); locked { // somebody removed the file
			return &LockedError{Dir: dir}
		}
	}
	return nil
}
