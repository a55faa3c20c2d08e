//go:build unix

package access

import (
	"io/fs"
	"syscall"
)

// gidOf returns the number of a file's group.
func gidOf(info fs.FileInfo) (gid int, ok bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(st.Gid), true
}
