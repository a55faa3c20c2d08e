//go:build !linux

package local

import (
	"errors"
	"fmt"
)

// Supported reports whether this system can have the socket.
const Supported = false

// listen refuses: who connects could not be known.
func listen(string) (listener, error) {
	return nil, fmt.Errorf("open socket: %w on this system; the local socket needs Linux", errors.ErrUnsupported)
}

// groupOf does not know.
func groupOf(string) string { return "" }
