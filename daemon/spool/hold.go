package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"fieldpost/daemon/durable"
	"fieldpost/daemon/regular"
)

const lockName = "lock"

// hold is a directory that is this process's alone. The lock on the file in it is
// for every user of the directory to see, and says whose it is. It is no use when
// somebody removes the file, so the directory is locked too, where not every user
// may open it and with that lock it; who can open this one can open the file as
// well. Where every user may, a file that was removed is put back as soon as it
// is missed.
type hold struct {
	dir  *os.File
	free func() // called by Close

	mu   sync.Mutex
	file *os.File
}

// holdDir locks a directory that is there. The error is a [*LockedError] where
// another process has it.
func holdDir(path string) (*hold, error) {
	dir, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open spool directory: %w", err)
	}
	h := &hold{dir: dir, free: func() {}}
	if lockable(dir) && errors.Is(durable.Lock(dir), durable.ErrLocked) { // not every file system can lock one
		err = &LockedError{Dir: path, PID: pidIn(path)}
	} else {
		h.file, err = lockFile(path)
	}
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return h, nil
}

// lockable reports whether a directory is closed to those who have nothing to do
// with it.
func lockable(dir *os.File) bool {
	const othersRead = 0o004
	info, err := dir.Stat()
	return err == nil && info.Mode().Perm()&othersRead == 0
}

// lockFile locks the file in the directory that says whose it is.
func lockFile(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockName)
	f, err := regular.OpenUnlinked(path, os.O_RDWR|os.O_CREATE, 0o640)
	readOnly := err != nil
	if readOnly {
		// A card that went read-only can still be read and locked.
		var again error
		if f, again = regular.OpenUnlinked(path, os.O_RDONLY, 0); again != nil {
			return nil, fmt.Errorf("open lock: %w", err)
		}
	}
	if err := durable.Lock(f); err != nil {
		defer f.Close()
		if errors.Is(err, durable.ErrLocked) {
			return nil, &LockedError{Dir: dir, PID: readPID(f)}
		}
		return nil, fmt.Errorf("lock spool directory %q: %w", dir, err)
	}
	if !readOnly {
		// The number is only for people: who has the lock is the kernel's affair.
		if f.Truncate(0) == nil {
			_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
		}
	}
	return f, nil
}

// Close lets another process have the directory.
func (h *hold) Close() error {
	h.free()
	h.mu.Lock()
	defer h.mu.Unlock()
	return errors.Join(h.file.Close(), h.dir.Close())
}

// same is [disk]'s.
func (h *hold) same() error {
	named, err := os.Stat(h.dir.Name())
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return fmt.Errorf("spool directory %q %w", h.dir.Name(), durable.ErrGone)
	}
	if err != nil {
		return fmt.Errorf("look at spool directory: %w", err)
	}
	ours, err := h.dir.Stat()
	if err != nil {
		return fmt.Errorf("look at spool directory: %w", err)
	}
	if !os.SameFile(named, ours) {
		return fmt.Errorf("spool directory %q %w", h.dir.Name(), durable.ErrGone)
	}
	return h.sameLock()
}

func (h *hold) sameLock() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := (durable.OSFile{File: h.file}).There(); !errors.Is(err, durable.ErrGone) {
		return err
	}
	f, err := lockFile(h.dir.Name())
	if locked := (*LockedError)(nil); errors.As(err, &locked) {
		return fmt.Errorf("spool directory's lock %w: %w", durable.ErrGone, err)
	}
	if err != nil {
		return fmt.Errorf("spool directory's lock was removed: %w", err)
	}
	_ = h.file.Close() // nobody can find it any more
	h.file = f
	return nil
}

// pidIn gives the number of the process that has a directory, as far as it says.
func pidIn(dir string) int {
	f, err := regular.OpenUnlinked(filepath.Join(dir, lockName), os.O_RDONLY, 0)
	if err != nil {
		return 0
	}
	defer f.Close()
	return readPID(f)
}

func readPID(f *os.File) int {
	b := make([]byte, 32)
	n, _ := f.ReadAt(b, 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}
