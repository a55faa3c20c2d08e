// Package durable makes what is written to a disk last: through a crash of this
// process, a power cut, and another process that wants the same files.
//
// It gives the pieces: a lock on an open file ([Lock]), a directory and its files
// ([Dir], [File]), a file replaced as a whole ([Replace]), and frames with a
// checksum that tell what of a file survived ([AppendFrame], [Scanner]). Package
// journal and package spool are built on them.
//
// Once a sync has failed, nothing in that file can be trusted (fsync(2), notes on
// EIO): the kernel may have dropped what it could not write. So whoever writes a
// file here keeps in memory what is to be in it, until it is done with.
package durable

import "errors"

// ErrLocked is the reason when the file is locked by way of another opening of
// it, in this process or in another.
var ErrLocked = errors.New("locked")

// ErrGone is the reason when a name stands for something else than what was
// opened under it, or for nothing.
var ErrGone = errors.New("was removed, renamed or replaced")
