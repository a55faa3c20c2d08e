//go:build unix

package durable

import (
	"errors"
	"os"
)

// SyncDir makes the names in a directory last: those created, renamed and
// removed. Any goroutine; it waits for the disk.
func SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
