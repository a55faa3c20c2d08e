package sim

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// kernelFiles is the part of a board that a kernel shows under /sys and /proc: files in a
// directory.
type kernelFiles struct {
	mu   sync.Mutex
	root string
}

// Root returns the directory set by SetRoot, or one that does not exist.
func (k *kernelFiles) Root() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.root
}

// SetRoot makes dir the directory under which the board's /sys and /proc are.
func (k *kernelFiles) SetRoot(dir string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.root = dir
}

// WriteThermal writes thermal zone n under the root: its type ("cpu-thermal") and its
// temperature. Call SetRoot first.
func (k *kernelFiles) WriteThermal(n int, kind string, celsius float64) error {
	dir := filepath.Join(k.Root(), "sys/class/thermal", fmt.Sprintf("thermal_zone%d", n))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make thermal zone: %w", err)
	}
	for name, text := range map[string]string{
		"type": kind + "\n",
		"temp": fmt.Sprintf("%.0f\n", celsius*1000),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("write thermal zone: %w", err)
		}
	}
	return nil
}
