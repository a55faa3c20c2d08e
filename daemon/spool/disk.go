package spool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"

	"fieldpost/daemon/durable"
)

// disk is the spool's directory. Names are relative to it. Tests put a failing
// one in place of the real one.
type disk interface {
	// Dir's Sync and Same are about the directory that is locked, if it is: Same
	// puts a lock file back that was removed, and its error wraps [durable.ErrGone]
	// when the directory is another one, or another process's, by now.
	durable.Dir
	// Lock makes the directory where it is missing and takes it for this
	// process alone; a [*LockedError] says that another has it.
	Lock() (io.Closer, error)
	// Place names the lock file on its file system, other than one that is a copy of
	// it; "" where that is not known.
	Place() string
}

// osDisk is a directory of the operating system.
type osDisk struct {
	durable.OSDir
	hold atomic.Pointer[hold] // nil while it is not locked
}

// fileMode is that of the spool's files.
const fileMode = 0o640

func newDisk(dir string) *osDisk {
	return &osDisk{OSDir: durable.OSDir{Path: dir, Mode: fileMode}}
}

func (d *osDisk) Lock() (io.Closer, error) {
	_, missing := os.Stat(d.Path)
	if err := os.MkdirAll(d.Path, 0o750); err != nil {
		return nil, fmt.Errorf("make spool directory: %w", err)
	}
	if missing != nil {
		if err := syncDir(filepath.Dir(d.Path)); err != nil {
			return nil, err
		}
	}
	h, err := holdDir(d.Path)
	if err != nil {
		return nil, err
	}
	h.free = func() { d.hold.Store(nil) }
	d.hold.Store(h)
	return h, nil
}

func (d *osDisk) Same() error {
	if h := d.hold.Load(); h != nil {
		return h.same()
	}
	return nil
}

// Create makes a file in the directory that is locked. A name is looked up anew
// each time: one that was made in another directory, put in the place of ours, is
// taken away again, for there it would be taken for another run's of our number.
func (d *osDisk) Create(name string) (durable.File, error) {
	f, err := d.OSDir.Create(name)
	if err != nil {
		return nil, err
	}
	if err := d.Same(); err != nil {
		return nil, errors.Join(err, f.Close(), d.Remove(name))
	}
	return f, nil
}

func (d *osDisk) Place() string {
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

func (d *osDisk) List() ([]string, error) {
	names, err := d.OSDir.List()
	if err != nil {
		return nil, fmt.Errorf("list spool: %w", err)
	}
	return names, nil
}

func (d *osDisk) Sync() error {
	if err := d.Same(); err != nil {
		return err
	}
	return syncDir(d.Path)
}

func syncDir(dir string) error {
	if err := durable.SyncDir(dir); err != nil {
		return fmt.Errorf("sync spool directory: %w", err)
	}
	return nil
}

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
