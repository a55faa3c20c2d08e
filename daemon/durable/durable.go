// Package durable writes files that survive a crash of the process, a power cut, and
// another process that wants the same files.
//
// It has the building blocks of the packages journal and spool: a lock on an open file
// ([Lock]), a directory and its files ([Dir], [File]), the replacement of a whole file
// ([Replace]), and frames with a checksum, which show how much of a file survived
// ([AppendFrame], [Scanner]).
//
// After a failed sync nothing in that file can be trusted: the kernel may have dropped
// what it could not write (fsync(2), notes on EIO). So a writer keeps in memory what
// the file should contain, until it is no longer needed.
package durable

import "errors"

// ErrLocked is the reason when the file is locked by way of another opening of
// it, in this process or in another.
var ErrLocked = errors.New("locked")

// ErrGone is the reason if a name no longer leads to what was opened under it.
var ErrGone = errors.New("was removed, renamed or replaced")
