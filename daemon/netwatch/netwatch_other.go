//go:build !linux

package netwatch

import (
	"context"
	"errors"
	"fmt"

	"fieldpost/daemon/wake"
)

// Watch reports [errors.ErrUnsupported]: only Linux has netlink.
func Watch(context.Context, wake.Signal) error {
	return fmt.Errorf("watch the network: %w", errors.ErrUnsupported)
}
