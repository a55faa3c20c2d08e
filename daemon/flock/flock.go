// Package flock keeps a second process out of what one has: it takes a lock on
// an open file, which ends with the file or the process, in whatever way. On
// Unix that is flock(2), on Windows LockFileEx.
package flock

import "errors"

// ErrHeld is the reason when the file is locked by way of another opening of
// it, be it in this process or in another.
var ErrHeld = errors.New("locked")
