package sim

import (
	"fmt"
	"os"
	"path/filepath"
)

// WriteIIO writes device iio:deviceN under the root: its name, its parent device
// ("1-0076", "dht11@4") and its files with their contents. As on a machine it is a link
// to a directory in that of the parent. It replaces an existing device. Call SetRoot
// first.
func (k *kernelFiles) WriteIIO(n int, name, at string, files map[string]string) error {
	dir := filepath.Join(k.Root(), "sys/bus/iio/devices")
	device := fmt.Sprintf("iio:device%d", n)
	all := map[string]string{"name": name + "\n"}
	for file, text := range files {
		all[file] = text
	}
	return writeDevice(dir, device, filepath.Join("devices", at, device), filepath.Join(k.Root(), "sys"), all)
}

// WriteW1 writes a 1-Wire probe under the root: its number ("28-00000a1b2c3d") and the
// contents of its file w1_slave. Call SetRoot first.
func (k *kernelFiles) WriteW1(number, slave string) error {
	dir := filepath.Join(k.Root(), "sys/bus/w1/devices")
	return writeDevice(dir, number, filepath.Join("devices/w1_bus_master1", number), filepath.Join(k.Root(), "sys"), map[string]string{"w1_slave": slave, "name": number + "\n"})
}

// writeDevice creates a device at place in the tree sys, and a link to it, dir/name.
func writeDevice(dir, name, place, sys string, files map[string]string) error {
	link, target := filepath.Join(dir, name), filepath.Join(sys, place)
	for _, old := range []string{link, target} {
		if err := os.RemoveAll(old); err != nil {
			return fmt.Errorf("remove device: %w", err)
		}
	}
	for _, d := range []string{dir, target} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("make device: %w", err)
		}
	}
	if err := os.Symlink(filepath.Join("../../..", place), link); err != nil {
		return fmt.Errorf("make device: %w", err)
	}
	for file, text := range files {
		if err := os.WriteFile(filepath.Join(target, file), []byte(text), 0o644); err != nil {
			return fmt.Errorf("write device: %w", err)
		}
	}
	return nil
}
