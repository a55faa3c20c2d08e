// Package journal keeps on disk what a part of the daemon is to know again after
// a restart: orders, levels of outputs, moments at which the clock was true,
// subscriptions.
//
// Its user has all of it in memory, so the file may be written anew at any time,
// and a file that fails costs nothing but what a crash would take. A [Journal]
// decides between putting an entry at the end and writing all anew, and [Keep]
// tries again what failed. Under it is a [File]: frames with checksums (package
// durable), replaced as a whole or appended to with one sync.
package journal

import (
	"context"
	"errors"
	"iter"
	"time"
)

// Storage is where a journal's entries are, a [File] or a test's. Its methods are
// called from one goroutine at a time, in the order that [File] documents, and
// may wait for the disk.
type Storage interface {
	Replay(take func(entry []byte)) (Damage, error)
	Append(entries ...[]byte) error
	Rewrite(entries iter.Seq[[]byte]) error
	Size() int64
}

// Damage is what could not be read. The end of a file is cut short by a
// power cut; then Tail is not 0, and no Append that succeeded is lost, unless
// the disk lost what it had said to have. Holes are damage.
type Damage struct {
	Holes int // places before the last entry where bytes are no entry
	Tail  int // bytes after the last entry
}

// Any reports whether there is damage.
func (d Damage) Any() bool { return d != Damage{} }

// Journal is a storage that is read once and then written. What it holds can be
// trusted only after all was written anew in this run: what an earlier one has
// left may be damaged, and so may what a write that failed has left. Until then,
// and again after each failure, Write puts all that its user knows in the place
// of what the storage holds.
//
// A Journal is for one goroutine at a time.
type Journal struct {
	storage Storage
	read    bool
	sound   bool // the storage holds what was written, and nothing else
}

// New gives the journal in a storage.
func New(s Storage) *Journal { return &Journal{storage: s} }

// Read hands every entry to take, which reports whether it knows it; one that it
// does not know counts as a hole. Read does this once: where it fails, because the
// disk is not there yet, it can be called again, and after it has succeeded it
// does nothing.
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

// WasRead reports whether Read has succeeded, or Rewrite: then there is nothing
// left to read.
func (j *Journal) WasRead() bool { return j.read }

// Sound reports whether entries can be appended.
func (j *Journal) Sound() bool { return j.sound }

// Size is the storage's size in bytes.
func (j *Journal) Size() int64 { return j.storage.Size() }

// errUnsound is the reason when nothing can be appended.
var errUnsound = errors.New("an earlier write failed")

// Append puts entries at the end, with one sync. It fails unless the journal is
// sound, and after it has failed the journal is not.
func (j *Journal) Append(entries ...[]byte) error {
	if !j.sound {
		return errUnsound
	}
	err := j.storage.Append(entries...)
	j.sound = err == nil
	return err
}

// Rewrite puts all in the place of what the storage holds. When it succeeds the
// journal is sound.
func (j *Journal) Rewrite(all iter.Seq[[]byte]) error {
	err := j.storage.Rewrite(all)
	j.sound = err == nil
	j.read = j.read || j.sound
	return err
}

// Write appends entries, or puts all, which has them too, in the place of what the
// storage holds: where the journal is not sound, or its size is more than large,
// in bytes.
func (j *Journal) Write(large int64, all iter.Seq[[]byte], entries ...[]byte) error {
	if !j.sound || j.Size() > large {
		return j.Rewrite(all)
	}
	return j.Append(entries...)
}

// Keep calls write at once, when wake is signalled, and when the time that write
// gave has passed; 0 waits for wake alone. When ctx ends it calls write once more,
// with last set, and returns.
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
