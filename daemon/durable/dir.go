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

// Dir is a directory whose files must survive a crash. Names are relative to it.
// [OSDir] is a directory of the operating system; tests use one that fails.
type Dir interface {
	// List returns the names of the regular files.
	List() ([]string, error)
	// Read returns the first bytes of a file, at most limit.
	Read(name string, limit int) ([]byte, error)
	// Create creates a file that must not exist. Append opens a file for appending
	// and creates it if it is missing.
	Create(name string) (File, error)
	Append(name string) (File, error)
	// Rename renames a file. It replaces what has the name to.
	Rename(from, to string) error
	// Remove removes a file. It is no error if there is none.
	Remove(name string) error
	// Truncate cuts a file to its first size bytes.
	Truncate(name string, size int64) error
	// Size returns the size of a file in bytes.
	Size(name string) (int64, error)
	// Sync makes the directory durable: names that were created, renamed or removed.
	Sync() error
	// Same returns nil as long as the name of the directory leads to the directory
	// that was locked, or if none was locked. Otherwise the error wraps [ErrGone].
	Same() error
}

// File is an open file. It is only appended to.
type File interface {
	io.WriteCloser
	io.ReaderAt
	// There returns nil as long as the name of the file leads to it. Otherwise the
	// error wraps [ErrGone].
	There() error
	// Sync makes the data and all metadata of the file durable. Datasync makes only
	// the data and its length durable: see fdatasync(2).
	Sync() error
	Datasync() error
}

// OSDir is a directory of the operating system, without a lock. It opens only regular
// files and follows no links: see package regular.
type OSDir struct {
	Path string
	Mode fs.FileMode // of the files that are made
}

func (d OSDir) path(name string) string { return filepath.Join(d.Path, name) }

// List implements [Dir], as do the methods below.
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

// Read allocates no more memory than the file has bytes.
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

// Create returns an error that wraps [fs.ErrExist] if the file exists.
func (d OSDir) Create(name string) (File, error) {
	return d.open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL|os.O_APPEND)
}

// Append refuses a link, even one that leads nowhere.
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

// Rename is rename(2). If a directory has the name to, the error says so.
func (d OSDir) Rename(from, to string) error {
	err := os.Rename(d.path(from), d.path(to))
	if err == nil {
		return nil
	}
	f, kind := regular.OpenUnlinked(d.path(to), os.O_RDONLY, 0)
	if errors.Is(kind, regular.ErrKind) {
		return kind
	} else if kind == nil {
		_ = f.Close()
	}
	return err
}

// Truncate refuses a link.
func (d OSDir) Truncate(name string, size int64) error {
	f, err := regular.OpenUnlinked(d.path(name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

// Remove returns no error if there is no such file.
func (d OSDir) Remove(name string) error {
	if err := os.Remove(d.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Size returns the size of a link itself, not of its target.
func (d OSDir) Size(name string) (int64, error) {
	info, err := os.Lstat(d.path(name))
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Sync calls [SyncDir].
func (d OSDir) Sync() error { return SyncDir(d.Path) }

// Same always returns nil: an OSDir has no lock.
func (d OSDir) Same() error { return nil }

// OSFile is a file of the operating system.
type OSFile struct{ *os.File }

// Datasync implements [File].
func (f OSFile) Datasync() error { return datasync(f.File) }

// There implements [File].
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

// TmpExt is the end of the name of a file that is not complete yet.
const TmpExt = ".tmp"

// Replace replaces the content of a file durably, or leaves the file as it was: a
// reader finds the old or the new content at any time. If only the sync of the
// directory fails, the file has the new content, and a power cut may bring back the
// old one.
func Replace(d Dir, name string, data []byte) error {
	return ReplaceBy(d, name, name+TmpExt, data)
}

// ReplaceBy is [Replace] with another name for the temporary file. A file of that name
// is removed. If somebody else removes it meanwhile, it is written once more.
func ReplaceBy(d Dir, name, tmp string, data []byte) error {
	if err := WriteNew(d, tmp, data); err != nil {
		return err
	}
	err := d.Rename(tmp, name)
	if errors.Is(err, fs.ErrNotExist) {
		if err := WriteNew(d, tmp, data); err != nil {
			return err
		}
		err = d.Rename(tmp, name)
	}
	if err != nil {
		_ = d.Remove(tmp) // the first error is the one to tell
		return fmt.Errorf("write %q: %w", name, err)
	}
	return d.Sync()
}

// WriteNew writes a new file. It removes a file of that name first. The data is durable
// when WriteNew returns; the name is durable after the next sync of the directory. If
// WriteNew fails, it leaves no file behind.
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
