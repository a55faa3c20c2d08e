//go:build !linux

package durable

import "os"

// datasync is a full sync where there is no fdatasync.
func datasync(f *os.File) error { return f.Sync() }
