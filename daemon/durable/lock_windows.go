package durable

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// lockedByte is far behind what a small file holds, so that others can read that.
const lockedByte = 1 << 30

// tryLock locks for this opening alone, without waiting.
func tryLock(f *os.File) error { return lockFileEx(f, windows.LOCKFILE_EXCLUSIVE_LOCK) }

// tryLockShared fails only where an opening has the file for itself alone.
func tryLockShared(f *os.File) error { return lockFileEx(f, 0) }

func lockFileEx(f *os.File, flags uint32) error {
	err := windows.LockFileEx(windows.Handle(f.Fd()), flags|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &windows.Overlapped{Offset: lockedByte})
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return ErrLocked
	}
	return err
}

func unlock(f *os.File) error {
	return windows.UnlockFileEx(windows.Handle(f.Fd()), 0, 1, 0, &windows.Overlapped{Offset: lockedByte})
}
