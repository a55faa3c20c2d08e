//go:build unix

package main

import (
	"io/fs"
	"os"
	"syscall"
)

// keepOwner gives a file the owner and group of another. Only root may give files away, but a
// file of one's own keeps its group.
func keepOwner(path string, of fs.FileInfo) error {
	as, ok := of.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	return os.Chown(path, int(as.Uid), int(as.Gid))
}
