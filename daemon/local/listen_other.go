//go:build !linux

package local

import (
	"errors"
	"fmt"
)

// Supported reports whether this system supports the socket.
const Supported = false

// listen refuses, because the peer's credentials would be unknown.
func listen(string) (listener, error) {
	return nil, fmt.Errorf("open socket: %w on this system; the local socket needs Linux", errors.ErrUnsupported)
}

// groupOf returns "": the group is unknown.
func groupOf(string) string { return "" }
