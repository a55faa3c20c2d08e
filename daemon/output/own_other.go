//go:build !unix

package output

import "os"

// lockDir does nothing: there are no lines on this system, and no record.
func lockDir(*os.File) error { return nil }
