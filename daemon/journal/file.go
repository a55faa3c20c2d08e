package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"sync"

	"fieldpost/daemon/durable"
)

// maxFile is the largest size of a file, in bytes.
const maxFile = 32 << 20

// ext is the end of a file's name. The spool's own files do not have it.
const ext = ".journal"

// File is a small file of entries. Each entry is on disk before Append returns. The file
// consists of frames like those of a spool segment (CRC-32C, length, seq, payload),
// without a header; seq counts the entries from 1.
//
// Call Replay first, then Rewrite or Resume, then Append as often as needed. After an error of
// Append or Rewrite, only Rewrite works: after a failed sync nothing in the file can be
// trusted. A [Journal] keeps to this order. Call Replay, Append and Rewrite from one
// goroutine at a time; they wait for the disk. PutBack and Close may be called
// meanwhile.
type File struct {
	dir    durable.Dir
	usable func() error // returns why the directory cannot be used now, or nil
	name   string

	mu    sync.Mutex   // PutBack is another goroutine's
	file  durable.File // what was read or written last; nil where there is none
	size  int64
	seq   uint64
	sound bool // the file holds what it is to hold, and nothing else
	whole bool // Replay has read it to the end, without damage
}

// NewFile returns the file of a name in a directory. It does not create the directory.
// usable returns why the directory cannot be used now, or nil; a nil func means that it
// always can.
func NewFile(dir durable.Dir, name string, usable func() error) *File {
	if usable == nil {
		usable = func() error { return nil }
	}
	return &File{dir: dir, usable: usable, name: name + ext}
}

// FileAt returns the file of a name in a directory that has no spool. The directory must
// exist and belong to this process alone. If somebody removes the file, nobody restores
// it, and the next Append fails. It stays open until the process ends.
func FileAt(dir, name string) *File {
	return NewFile(durable.OSDir{Path: dir, Mode: 0o640}, name, nil)
}

// PutBack restores the file if it was removed or replaced. If its content cannot be read
// back, the next Append fails, and the user rewrites it.
func (j *File) PutBack() error {
	if !j.mu.TryLock() {
		return nil // it is being written, and found out about so
	}
	defer j.mu.Unlock()
	if j.file == nil {
		return nil
	}
	if err := j.file.There(); !errors.Is(err, durable.ErrGone) {
		return err
	}
	data, err := io.ReadAll(io.NewSectionReader(j.file, 0, maxFile))
	if err != nil || int64(len(data)) != j.size && j.sound {
		j.sound = false
		j.keepLocked(nil)
		return nil
	}
	if err := durable.Replace(j.dir, j.name, data); err != nil {
		return j.wrap("put back", err)
	}
	if f, err := j.dir.Append(j.name); err == nil {
		j.keepLocked(f)
	} else {
		j.keepLocked(nil)
	}
	return nil
}

// keepLocked keeps a file open in place of the previous one, so that its content can be
// read even after its name is gone.
func (j *File) keepLocked(f durable.File) {
	if j.file != nil {
		_ = j.file.Close() // it is synced, or not to be trusted
	}
	j.file = f
}

// Close closes the file.
func (j *File) Close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.keepLocked(nil)
}

// errTooLong is the reason if an entry does not fit into a frame.
var errTooLong = fmt.Errorf("an entry has 1 to %d bytes", durable.MaxPayload)

// Replay passes every entry that can be read to take, in order. take must not keep the
// payload. A missing file is empty. An error comes from the disk; then the content of the
// file is unknown.
func (j *File) Replay(take func(payload []byte)) (Damage, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.whole = false
	if err := j.usable(); err != nil {
		return Damage{}, j.wrap("read", err)
	}
	data, err := j.dir.Read(j.name, maxFile+1)
	if errors.Is(err, fs.ErrNotExist) {
		return Damage{}, nil
	}
	if err != nil {
		return Damage{}, j.wrap("read", err)
	}
	if len(data) > maxFile {
		return Damage{}, j.wrap("read", fmt.Errorf("larger than %d bytes", maxFile))
	}
	if f, err := j.dir.Append(j.name); err == nil { // else nothing will be written either
		j.keepLocked(f)
	}
	at := durable.Scan(data, 0)
	for at.Next() {
		take(at.Payload)
	}
	damage := Damage{Holes: at.Holes, Tail: at.Tail}
	if !j.sound {
		j.seq, j.size, j.whole = at.Seq, int64(len(data)), !damage.Any()
	}
	return damage, nil
}

// Resume lets Append continue what Replay has just read, without a Rewrite, and reports
// whether it can: only if there is a file, without damage. An earlier run may have failed to
// sync it. So Resume is for users that can lose entries, and to whom a Rewrite at each start
// is too expensive.
func (j *File) Resume() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.sound = j.sound || j.whole
	return j.sound
}

// Append appends entries with one sync, and returns when they are on disk. After a power
// cut meanwhile, the file has the first few of them, or none, or all.
func (j *File) Append(payloads ...[]byte) error {
	for _, b := range payloads {
		if len(b) == 0 || len(b) > durable.MaxPayload {
			return j.wrap("append to", errTooLong)
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.appendableLocked(); err != nil {
		j.sound = false
		return j.wrap("append to", err)
	}
	j.sound = false
	var b []byte
	for i, payload := range payloads {
		b = durable.AppendFrame(b, j.seq+1+uint64(i), payload)
	}
	f, err := j.dir.Append(j.name)
	if err != nil {
		return j.wrap("open", err)
	}
	j.keepLocked(f)
	_, err = f.Write(b)
	if err == nil {
		err = f.Datasync()
	}
	if err == nil {
		err = f.There()
	}
	if err == nil {
		err = j.dir.Same()
	}
	if err == nil { // the file may have been removed before it was opened, and so be a new one
		err = j.isLongLocked(j.size + int64(len(b)))
	}
	if err != nil {
		return j.wrap("append to", err)
	}
	j.seq, j.size, j.sound = j.seq+uint64(len(payloads)), j.size+int64(len(b)), true
	return nil
}

// appendableLocked returns why nothing can be appended, or nil. Somebody may have removed
// the file, or restored it from a copy.
func (j *File) appendableLocked() error {
	if err := j.usable(); err != nil {
		return err
	}
	if !j.sound {
		return errors.New("an earlier write failed")
	}
	return j.isLongLocked(j.size)
}

// isLongLocked returns nil if the file has want bytes.
func (j *File) isLongLocked(want int64) error {
	n, err := j.dir.Size(j.name)
	if err == nil && n != want {
		err = fmt.Errorf("file has %d bytes, and %d were written", n, want)
	}
	return err
}

// Rewrite replaces everything in the file with entries, and returns when that is on disk.
// After an error the file has the old or the new content.
func (j *File) Rewrite(entries iter.Seq[[]byte]) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.sound = false
	if err := j.usable(); err != nil {
		return j.wrap("write", err)
	}
	var b []byte
	seq := uint64(0)
	for payload := range entries {
		if len(payload) == 0 || len(payload) > durable.MaxPayload {
			return j.wrap("write", errTooLong)
		}
		seq++
		b = durable.AppendFrame(b, seq, payload)
	}
	if len(b) > maxFile {
		return j.wrap("write", fmt.Errorf("larger than %d bytes", maxFile))
	}
	if err := durable.Replace(j.dir, j.name, b); err != nil {
		return fmt.Errorf("rewrite journal: %w", err)
	}
	if file, err := j.dir.Append(j.name); err == nil { // else the next entry finds out
		j.keepLocked(file)
	} else {
		j.keepLocked(nil)
	}
	j.seq, j.size, j.sound = seq, int64(len(b)), true
	return nil
}

// Size returns the size of what Append and Rewrite wrote, in bytes.
func (j *File) Size() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.size
}

func (j *File) wrap(verb string, err error) error {
	return fmt.Errorf("%s %q: %w", verb, j.name, err)
}
