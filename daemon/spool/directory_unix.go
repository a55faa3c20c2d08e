//go:build unix

package spool

import (
	"io/fs"
	"strconv"
	"syscall"
)

// inode returns the inode number of a file.
func inode(info fs.FileInfo) string {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return strconv.FormatUint(uint64(s.Ino), 10)
	}
	return ""
}
