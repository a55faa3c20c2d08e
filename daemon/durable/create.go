package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// CreateFile creates a file with this content and mode, durably. It never replaces anything: if
// there is something of that name, even a link that leads nowhere, the error wraps
// [fs.ErrExist]. The file appears under its name as a whole, except on a file system without
// hard links, such as FAT. Any goroutine; it waits for the disk.
func CreateFile(path string, data []byte, mode fs.FileMode) error {
	dir := filepath.Dir(path)
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("create %q: %w", path, fs.ErrExist)
	}
	tried, err := createUnnamed(path, data, mode)
	if !tried {
		err = createLinked(path, data, mode)
	}
	if err != nil {
		return fmt.Errorf("create %q: %w", path, err)
	}
	if err := SyncDir(dir); err != nil {
		return fmt.Errorf("create %q: sync directory: %w", path, err)
	}
	return nil
}

// createLinked writes a file under another name, and links it to its own. A crash may leave it
// under the other name, which ends in [TmpExt], with the mode 0600 or the one given.
func createLinked(path string, data []byte, mode fs.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*"+TmpExt)
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // it has another name by then, or is of no use
	if err := writeAll(tmp, data, mode); err != nil {
		return err
	}
	err = os.Link(tmp.Name(), path)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return createUnlinked(path, data, mode)
	}
	return err
}

// createUnlinked is for file systems without hard links.
func createUnlinked(path string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if err := writeAll(f, data, mode); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// writeAll writes a file, sets its mode, syncs and closes it.
func writeAll(f *os.File, data []byte, mode fs.FileMode) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
