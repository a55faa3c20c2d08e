package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// createUnnamed writes a file that has no name before it is complete, so that a crash leaves
// nothing: see O_TMPFILE in open(2). tried is false if the file system has no such files, or
// /proc is not there.
func createUnnamed(path string, data []byte, mode fs.FileMode) (tried bool, err error) {
	fd, err := unix.Open(filepath.Dir(path), unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return false, nil
	}
	f := os.NewFile(uintptr(fd), path)
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return false, f.Close()
		}
	}
	return true, errors.Join(err, f.Close())
}
