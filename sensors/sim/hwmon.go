package sim

import (
	"fmt"
	"os"
	"path/filepath"
)

// WriteHwmon writes device hwmonN under the root: its name, its parent device ("1-0044",
// or "" for none) and its files with their contents. It replaces an existing device. Call
// SetRoot first.
func (k *kernelFiles) WriteHwmon(n int, name, at string, files map[string]string) error {
	dir := filepath.Join(k.Root(), "sys/class/hwmon", fmt.Sprintf("hwmon%d", n))
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove hwmon device: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make hwmon device: %w", err)
	}
	if at != "" {
		if err := os.Symlink(filepath.Join("../../../devices", at), filepath.Join(dir, "device")); err != nil {
			return fmt.Errorf("make hwmon device: %w", err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "name"), []byte(name+"\n"), 0o644); err != nil {
		return fmt.Errorf("write hwmon device: %w", err)
	}
	for file, text := range files {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			return fmt.Errorf("write hwmon device: %w", err)
		}
	}
	return nil
}
