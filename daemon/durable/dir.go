package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"fieldpost/daemon/regular"
)

// Dir is a directory whose files are to last. Names are relative to it. An
// [OSDir] is the operating system's; tests put a failing one in its place.
type Dir interface {
	// List gives the names of the regular files.
	List() ([]string, error)
	// Read gives a file's bytes, at most limit of them.
	Read(name string, limit int) ([]byte, error)
	// Create makes a file that is not there; Append opens one to append to it,
	// made where it is missing.
	Create(name string) (File, error)
	Append(name string) (File, error)
	// Rename puts a file in the place of what has the name to.
	Rename(from, to string) error
	// Remove removes a file, if it is there.
	Remove(name string) error
	// Truncate cuts a file to its first size bytes.
	Truncate(name string, size int64) error
	// Size is a file's size in bytes.
	Size(name string) (int64, error)
	// Sync makes names created, renamed and removed durable.
	Sync() error
	// Same is nil while the directory's name stands for the directory that was
	// taken, if one was; the error wraps [ErrGone] when it does not.
	Same() error
}

// File is an open file that is only ever appended to.
type File interface {
	io.WriteCloser
	io.ReaderAt
	// There is nil while the file's name stands for it; the error wraps [ErrGone]
	// when it does not.
	There() error
	// Sync makes data and all of the file's metadata durable, Datasync the
	// data and its length; see fdatasync(2).
	Sync() error
	Datasync() error
}

// OSDir is a directory of the operating system that nobody has locked. All that
// is opened in it is a regular file and no link: see package regular.
type OSDir struct {
	Path string
	Mode fs.FileMode // of the files that are made
}

func (d OSDir) path(name string) string { return filepath.Join(d.Path, name) }

// List is [Dir]'s, as are the methods below.
func (d OSDir) List() ([]string, error) {
	entries, err := os.ReadDir(d.Path)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Read allocates no more than the file's size.
func (d OSDir) Read(name string, limit int) ([]byte, error) {
	f, err := regular.OpenUnlinked(d.path(name), os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	room := limit
	if info, err := f.Stat(); err == nil && info.Size() < int64(limit) {
		room = int(info.Size())
	}
	b := make([]byte, room)
	n, err := io.ReadFull(f, b)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b[:n], nil
}

// Create gives an error that wraps [fs.ErrExist] where the file is there.
func (d OSDir) Create(name string) (File, error) {
	return d.open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL|os.O_APPEND)
}

// Append refuses a link, also one that leads nowhere.
func (d OSDir) Append(name string) (File, error) {
	return d.open(name, os.O_RDWR|os.O_CREATE|os.O_APPEND)
}

func (d OSDir) open(name string, flag int) (File, error) {
	f, err := regular.OpenUnlinked(d.path(name), flag, d.Mode)
	if err != nil {
		return nil, err
	}
	return OSFile{f}, nil
}

// Rename is rename(2).
func (d OSDir) Rename(from, to string) error { return os.Rename(d.path(from), d.path(to)) }

// Truncate refuses a link.
func (d OSDir) Truncate(name string, size int64) error {
	f, err := regular.OpenUnlinked(d.path(name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

// Remove gives no error where there is nothing.
func (d OSDir) Remove(name string) error {
	if err := os.Remove(d.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Size is that of a link where the name is one.
func (d OSDir) Size(name string) (int64, error) {
	info, err := os.Lstat(d.path(name))
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Sync is [SyncDir].
func (d OSDir) Sync() error { return SyncDir(d.Path) }

// Same is always nil: nobody has taken the directory.
func (d OSDir) Same() error { return nil }

// OSFile is a file of the operating system.
type OSFile struct{ *os.File }

// Datasync is [File]'s.
func (f OSFile) Datasync() error { return datasync(f.File) }

// There is [File]'s.
func (f OSFile) There() error {
	named, err := os.Lstat(f.Name())
	if err == nil {
		var ours fs.FileInfo
		if ours, err = f.Stat(); err == nil && os.SameFile(named, ours) {
			return nil
		}
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("file %q %w", filepath.Base(f.Name()), ErrGone)
	}
	return err
}

// TmpExt ends the name of a file that is not complete.
const TmpExt = ".tmp"

// Replace puts data durably into a file in place of what it held, or leaves
// it as it was: whoever reads it, whenever, finds the one or the other. Where only
// the directory's sync fails, the file holds data, and a power cut may bring back
// what it held before.
func Replace(d Dir, name string, data []byte) error {
	return ReplaceBy(d, name, name+TmpExt, data)
}

// ReplaceBy is [Replace] with a name for the file that has data until it is
// complete. What stands under that name is removed.
func ReplaceBy(d Dir, name, tmp string, data []byte) error {
	if err := WriteNew(d, tmp, data); err != nil {
		return err
	}
	if err := d.Rename(tmp, name); err != nil {
		_ = d.Remove(tmp) // the first error is the one to tell
		return fmt.Errorf("write %q: %w", name, err)
	}
	return d.Sync()
}

// WriteNew makes a file that holds data, and removes before what has its name. Its
// data is durable when WriteNew returns; its name is after the directory's sync.
// Where it fails there is no file.
func WriteNew(d Dir, name string, data []byte) error {
	if err := d.Remove(name); err != nil { // of a crash, or not ours
		return fmt.Errorf("remove %q: %w", name, err)
	}
	f, err := d.Create(name)
	if err != nil {
		return fmt.Errorf("create %q: %w", name, err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		_ = d.Remove(name) // the first error is the one to tell
		return fmt.Errorf("write %q: %w", name, err)
	}
	return nil
}
