//go:build !linux

package systemd

import (
	"fmt"
	"os"
)

// StoreHandles fails with [ErrNoManager]: there is no systemd here.
func StoreHandles([]string, []*os.File) error {
	return fmt.Errorf("store handles: %w", ErrNoManager)
}

// RemoveHandle fails with [ErrNoManager]: there is no systemd here.
func RemoveHandle(name string) error {
	return fmt.Errorf("remove handle %q: %w", name, ErrNoManager)
}

// InheritedHandles returns none: there is no systemd here.
func InheritedHandles() map[string]*os.File { return map[string]*os.File{} }
