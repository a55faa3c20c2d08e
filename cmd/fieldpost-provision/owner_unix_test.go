//go:build unix

package main

import (
	"fmt"
	"io/fs"
	"syscall"
)

// ownerOf names a file's owner and group by their numbers.
func ownerOf(info fs.FileInfo) string {
	as := info.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%d:%d", as.Uid, as.Gid)
}
