package spool

import "io/fs"

// inode returns "", because package os has no number of a file on Windows.
func inode(fs.FileInfo) string { return "" }
