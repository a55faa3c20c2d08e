package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"sync"
)

// maxJournal bounds a journal's file.
const maxJournal = 32 << 20

// journalExt ends a journal's name, so that it is none of the spool's own.
const journalExt = ".journal"

// Journal is a small file of entries in the spool's directory, each on disk
// before Append returns. It has frames as a segment has (CRC-32C, length, seq,
// payload) and no header; seq counts the entries from 1.
//
// A journal is used in one order: Replay, then Rewrite, then Append as often as
// need be. After an error of Append or Rewrite only Rewrite helps: once a sync
// has failed nothing in that file can be trusted (fsync(2), notes on EIO). So
// its user keeps in memory what is to be in it. Where the file, or the spool's
// directory, is removed or replaced, the spool puts it back as it was. Its methods
// are for one goroutine at a time, and wait for the disk.
type Journal struct {
	disk disk
	held func() bool // whether the directory is this process's
	name string

	mu    sync.Mutex // the spool's writer looks after the file, too
	file  file       // what was read or written last; nil where there is none
	size  int64
	seq   uint64
	sound bool // the file holds what it is to hold, and nothing else
}

// Damage is what Replay could not read. The end of a journal is cut short by a
// power cut; then Tail is not 0, and no Append that succeeded is lost, unless
// the disk lost what it had said to have. Holes are damage.
type Damage struct {
	Holes int // places before the last entry where bytes are no entry
	Tail  int // bytes after the last entry
}

// Journal gives the journal of a name in the spool's directory. While the spool
// cannot use its directory, nor can the journal; it can when the spool can.
func (s *Spool) Journal(name string) *Journal {
	j := &Journal{disk: s.disk, held: s.held.Load, name: name + journalExt}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.journals = append(s.journals, j)
	return j
}

func (s *Spool) allJournals() []*Journal {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.journals)
}

// look puts the file back where it was removed or replaced. A file that cannot
// be read back is its user's to write, who finds out with the next entry.
func (j *Journal) look() error {
	if !j.mu.TryLock() {
		return nil // it is being written, and found out about so
	}
	defer j.mu.Unlock()
	if j.file == nil {
		return nil
	}
	if err := j.file.there(); !errors.Is(err, errGone) {
		return err
	}
	data, err := io.ReadAll(io.NewSectionReader(j.file, 0, maxJournal))
	if err != nil || int64(len(data)) != j.size && j.sound {
		j.sound = false
		j.keep(nil)
		return nil
	}
	if err := replace(j.disk, j.name, data); err != nil {
		return j.wrap("put back", err)
	}
	if f, err := j.disk.add(j.name); err == nil {
		j.keep(f)
	} else {
		j.keep(nil)
	}
	return nil
}

// keep keeps a file open in place of the one before, so that it can be read when
// it has no name any more. Called with mu held.
func (j *Journal) keep(f file) {
	if j.file != nil {
		_ = j.file.Close() // it is synced, or not to be trusted
	}
	j.file = f
}

// close lets go of the file.
func (j *Journal) close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.keep(nil)
}

// NewJournal gives the journal of a name in a directory that has no spool. The
// directory must be this process's alone; it is not made. Nobody puts the file back
// where it is removed; the next Append fails then. It stays open until the process
// ends.
func NewJournal(dir, name string) *Journal {
	return &Journal{disk: &osDisk{dir: dir}, held: func() bool { return true }, name: name + journalExt}
}

// errNotHeld is a journal's reason while its spool does not have the
// directory.
var errNotHeld = errors.New("the spool's directory cannot be used")

// errTooLong is the reason for a payload that no frame takes.
var errTooLong = fmt.Errorf("an entry has 1 to %d bytes", maxPayload)

// Replay hands the payload of every entry that can be read to take, in their
// order; a payload is take's for the call only. A file that is not there is
// empty. The error is the disk's; then nothing is known of what the file holds.
func (j *Journal) Replay(take func(payload []byte)) (Damage, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.held() {
		return Damage{}, j.wrap("read", errNotHeld)
	}
	data, err := j.disk.read(j.name, maxJournal+1)
	if errors.Is(err, fs.ErrNotExist) {
		return Damage{}, nil
	}
	if err != nil {
		return Damage{}, j.wrap("read", err)
	}
	if len(data) > maxJournal {
		return Damage{}, j.wrap("read", fmt.Errorf("larger than %d bytes", maxJournal))
	}
	if f, err := j.disk.add(j.name); err == nil { // else nothing will be written either
		j.keep(f)
	}
	at := scanner{data: data}
	for at.next() {
		take(at.payload)
	}
	return Damage{Holes: at.holes, Tail: at.tail}, nil
}

// Append puts entries at the end, with one sync, and returns when they are on
// disk. After a power cut the file has them from the first to some of them.
func (j *Journal) Append(payloads ...[]byte) error {
	for _, b := range payloads {
		if len(b) == 0 || len(b) > maxPayload {
			return j.wrap("append to", errTooLong)
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.usable(); err != nil {
		j.sound = false
		return j.wrap("append to", err)
	}
	j.sound = false
	var b []byte
	for i, payload := range payloads {
		b = appendFrame(b, j.seq+1+uint64(i), payload)
	}
	f, err := j.disk.add(j.name)
	if err != nil {
		return j.wrap("open", err)
	}
	j.keep(f)
	_, err = f.Write(b)
	if err == nil {
		err = f.datasync()
	}
	if err == nil {
		err = f.there()
	}
	if err == nil {
		err = j.disk.same()
	}
	if err != nil {
		return j.wrap("append to", err)
	}
	j.seq, j.size, j.sound = j.seq+uint64(len(payloads)), j.size+int64(len(b)), true
	return nil
}

// usable says why nothing can be appended, if so. The file may have been
// removed, or put back from a copy, by somebody who tidies up.
func (j *Journal) usable() error {
	switch n, err := j.disk.size(j.name); {
	case !j.held():
		return errNotHeld
	case !j.sound:
		return errors.New("an earlier write failed")
	case err != nil:
		return err
	case n != j.size:
		return fmt.Errorf("file has %d bytes, and %d were written", n, j.size)
	}
	return nil
}

// Rewrite puts entries in the place of all that the journal held, and returns
// when that is on disk. After an error the file holds the one or the other.
func (j *Journal) Rewrite(entries iter.Seq[[]byte]) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.sound = false
	if !j.held() {
		return j.wrap("write", errNotHeld)
	}
	var f frames
	for payload := range entries {
		if len(payload) == 0 || len(payload) > maxPayload {
			return j.wrap("write", errTooLong)
		}
		f.add(payload)
	}
	if len(f.b) > maxJournal {
		return j.wrap("write", fmt.Errorf("larger than %d bytes", maxJournal))
	}
	if err := replace(j.disk, j.name, f.b); err != nil {
		return fmt.Errorf("rewrite journal: %w", err)
	}
	if file, err := j.disk.add(j.name); err == nil { // else the next entry finds out
		j.keep(file)
	} else {
		j.keep(nil)
	}
	j.seq, j.size, j.sound = f.seq, int64(len(f.b)), true
	return nil
}

// Size is the file's size in bytes, as far as Append and Rewrite made it.
func (j *Journal) Size() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.size
}

func (j *Journal) wrap(verb string, err error) error {
	return fmt.Errorf("%s %q: %w", verb, j.name, err)
}
