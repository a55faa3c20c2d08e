package access

import "io/fs"

// gidOf returns no group: Windows has none in a file's mode.
func gidOf(fs.FileInfo) (gid int, ok bool) { return 0, false }
