// Package journal stores what a part of the daemon must know after a restart: orders,
// levels of outputs, times at which the clock was right, subscriptions.
//
// The user of a journal has everything in memory. So the file can be rewritten at any
// time, and a file that fails costs nothing unless the daemon crashes too. A [Journal]
// decides whether to append an entry or to rewrite everything, and [Keep] retries what
// failed. A [File] is the file below: frames with checksums (package durable), rewritten
// as a whole or appended to, with one sync.
package journal

import (
	"context"
	"errors"
	"iter"
	"time"
)

// Storage holds the entries of a journal. It is a [File], or a fake in a test. Its
// methods are called from one goroutine at a time, in the order that [File] documents.
// They may wait for the disk.
type Storage interface {
	Replay(take func(entry []byte)) (Damage, error)
	Append(entries ...[]byte) error
	Rewrite(entries iter.Seq[[]byte]) error
	Size() int64
}

// Damage is what could not be read. A power cut may leave a Tail; then no entry of a
// successful Append is lost, unless the disk lost data that it had reported as written.
// Holes are real damage.
type Damage struct {
	Holes int // places before the last entry where bytes are no entry
	Tail  int // bytes after the last entry
}

// Any reports whether there is damage.
func (d Damage) Any() bool { return d != Damage{} }

// Journal reads a storage once and then writes to it. The storage is sound only after
// this run has rewritten it: an earlier run, or a failed write, may have left damage.
// So the first Write, and the first one after each failure, rewrites everything that
// the user knows.
//
// Use a Journal from one goroutine at a time.
type Journal struct {
	storage Storage
	read    bool
	sound   bool // the storage holds what was written, and nothing else
}

// New returns the journal in a storage.
func New(s Storage) *Journal { return &Journal{storage: s} }

// Read passes every entry to take. If take does not know an entry, it returns false, and
// the entry counts as a hole. Read can be called again after it has failed, for example
// because the disk is not there yet. After it has succeeded it does nothing.
func (j *Journal) Read(take func(entry []byte) bool) (Damage, error) {
	if j.read {
		return Damage{}, nil
	}
	strange := 0
	damage, err := j.storage.Replay(func(entry []byte) {
		if !take(entry) {
			strange++
		}
	})
	if err != nil {
		return Damage{}, err
	}
	j.read = true
	damage.Holes += strange
	return damage, nil
}

// WasRead reports whether there is nothing left to read, because Read or Rewrite has
// succeeded.
func (j *Journal) WasRead() bool { return j.read }

// Sound reports whether entries can be appended.
func (j *Journal) Sound() bool { return j.sound }

// Size returns the size of the storage in bytes.
func (j *Journal) Size() int64 { return j.storage.Size() }

// errUnsound is the reason if nothing can be appended.
var errUnsound = errors.New("an earlier write failed")

// Append appends entries, with one sync. It fails if the journal is not sound. After it
// has failed, the journal is not sound.
func (j *Journal) Append(entries ...[]byte) error {
	if !j.sound {
		return errUnsound
	}
	err := j.storage.Append(entries...)
	j.sound = err == nil
	return err
}

// Rewrite replaces everything in the storage. If it succeeds, the journal is sound.
func (j *Journal) Rewrite(all iter.Seq[[]byte]) error {
	err := j.storage.Rewrite(all)
	j.sound = err == nil
	j.read = j.read || j.sound
	return err
}

// Write appends entries. If the journal is not sound, or larger than large bytes, it
// rewrites everything instead: all must include the entries.
func (j *Journal) Write(large int64, all iter.Seq[[]byte], entries ...[]byte) error {
	if !j.sound || j.Size() > large {
		return j.Rewrite(all)
	}
	return j.Append(entries...)
}

// Keep calls write at once, when wake is signalled, and after the time that the latest
// write returned; after 0 it waits only for wake. When ctx ends, it calls write once
// more with last set, and returns.
func Keep(ctx context.Context, wake <-chan struct{}, write func(last bool) (again time.Duration)) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			write(true)
			return
		case <-wake:
		case <-timer.C:
			select {
			case <-wake: // this call is for it too
			default:
			}
		}
		if again := write(false); again > 0 {
			timer.Reset(again)
		} else {
			timer.Stop()
		}
	}
}
