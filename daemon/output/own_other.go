//go:build !unix

package output

import "os"

// lockFile does nothing: there are no lines on this system, and no record.
func lockFile(*os.File) error { return nil }
