package durable

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// Lock locks an open file without waiting. The error is [ErrLocked] when it is
// locked already. The lock is on a byte far behind what a small file holds, so
// that others can read that. Any goroutine.
func Lock(f *os.File) error {
	at := windows.Overlapped{Offset: 1 << 30}
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &at)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return ErrLocked
	}
	return err
}
