package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"

	"fieldpost/daemon/regular"
)

// disk is the spool's directory. Names are relative to it. Tests put a failing
// one in place of the real one.
type disk interface {
	// lock makes the directory where it is missing and takes it for this
	// process alone; a [*LockedError] says that another has it.
	lock() (io.Closer, error)
	list() ([]string, error)
	// read gives a file's bytes, at most limit of them.
	read(name string, limit int) ([]byte, error)
	// create makes a file that is not there; add opens one to append to it,
	// made where it is missing.
	create(name string) (file, error)
	add(name string) (file, error)
	rename(from, to string) error
	remove(name string) error
	truncate(name string, size int64) error
	size(name string) (int64, error)
	// sync makes names created, renamed and removed durable, in the directory that
	// is locked, if it is.
	sync() error
	// place names the lock file on its file system, other than one that is a copy of
	// it; "" where that is not known.
	place() string
	// same is nil while the directory's name stands for the one that is locked, if
	// it is. It
	// puts a lock file back that was removed. The error wraps [errGone] when the
	// directory is another one, or another process's, by now.
	same() error
}

// file is an open file that is only ever appended to.
type file interface {
	io.WriteCloser
	io.ReaderAt
	// there is nil while the file's name stands for it; the error wraps [errGone]
	// when it does not.
	there() error
	// sync makes data and all of the file's metadata durable, datasync the
	// data and its length; see fdatasync(2).
	sync() error
	datasync() error
}

// osDisk is a directory of the operating system. All that is opened in it is a
// regular file and no link: see package regular.
type osDisk struct {
	dir  string
	hold atomic.Pointer[hold] // nil while it is not locked
}

func (d *osDisk) path(name string) string { return filepath.Join(d.dir, name) }

func (d *osDisk) lock() (io.Closer, error) {
	_, missing := os.Stat(d.dir)
	if err := os.MkdirAll(d.dir, 0o750); err != nil {
		return nil, fmt.Errorf("make spool directory: %w", err)
	}
	if missing != nil {
		if err := syncDir(filepath.Dir(d.dir)); err != nil {
			return nil, err
		}
	}
	h, err := holdDir(d.dir)
	if err != nil {
		return nil, err
	}
	h.free = func() { d.hold.Store(nil) }
	d.hold.Store(h)
	return h, nil
}

func (d *osDisk) same() error {
	if h := d.hold.Load(); h != nil {
		return h.same()
	}
	return nil
}

func (d *osDisk) place() string {
	h := d.hold.Load()
	if h == nil {
		return ""
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	info, err := h.file.Stat()
	if err != nil {
		return ""
	}
	return inode(info)
}

func (d *osDisk) list() ([]string, error) {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return nil, fmt.Errorf("list spool: %w", err)
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (d *osDisk) read(name string, limit int) ([]byte, error) {
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

func (d *osDisk) create(name string) (file, error) {
	return d.open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL|os.O_APPEND)
}

func (d *osDisk) add(name string) (file, error) {
	return d.open(name, os.O_RDWR|os.O_CREATE|os.O_APPEND)
}

func (d *osDisk) open(name string, flag int) (file, error) {
	f, err := regular.OpenUnlinked(d.path(name), flag, 0o640)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (d *osDisk) rename(from, to string) error { return os.Rename(d.path(from), d.path(to)) }

func (d *osDisk) truncate(name string, size int64) error {
	f, err := regular.OpenUnlinked(d.path(name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

func (d *osDisk) remove(name string) error {
	if err := os.Remove(d.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (d *osDisk) size(name string) (int64, error) {
	info, err := os.Lstat(d.path(name))
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (d *osDisk) sync() error {
	if h := d.hold.Load(); h != nil {
		if err := h.same(); err != nil {
			return err
		}
	}
	return syncDir(d.dir)
}

type osFile struct{ *os.File }

func (f osFile) sync() error     { return f.Sync() }
func (f osFile) datasync() error { return datasync(f.File) }

func (f osFile) there() error {
	named, err := os.Lstat(f.Name())
	if err == nil {
		var ours fs.FileInfo
		if ours, err = f.Stat(); err == nil && os.SameFile(named, ours) {
			return nil
		}
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("file %q %w", filepath.Base(f.Name()), errGone)
	}
	return err
}

// replace puts data durably into a file in place of what it held, or leaves
// it as it was.
func replace(d disk, name string, data []byte) error {
	tmp := name + tmpExt
	if err := d.remove(tmp); err != nil {
		return fmt.Errorf("remove %q: %w", tmp, err)
	}
	f, err := d.create(tmp)
	if err != nil {
		return fmt.Errorf("create %q: %w", tmp, err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = d.rename(tmp, name)
	}
	if err != nil {
		_ = d.remove(tmp) // the first error is the one to tell
		return fmt.Errorf("write %q: %w", name, err)
	}
	return d.sync()
}

// tmpExt ends the name of a file that is not complete.
const tmpExt = ".tmp"

// LockedError says that another process has the spool's directory.
type LockedError struct {
	Dir string
	PID int // the process's number, or 0 where it is not known
}

// Error names the directory and the process.
func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("spool directory %q is in use by another process", e.Dir)
	}
	return fmt.Sprintf("spool directory %q is in use by process %d", e.Dir, e.PID)
}
