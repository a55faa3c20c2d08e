package board

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// SerialPort returns the name of the serial port that device is, or is a link to:
// "ttyAMA0" for /dev/serial0 on many Raspberry Pis. It reads /dev under root. If the device
// is not there, it returns its own name.
func SerialPort(root, device string) string {
	name := strings.TrimPrefix(device, "/dev/")
	path, err := filepath.EvalSymlinks(filepath.Join(root, "dev", name))
	if err != nil {
		return name
	}
	return filepath.Base(path)
}

// IsConsole reports whether the kernel writes its messages to a serial port
// (Linux, Documentation/ABI/testing/sysfs-tty: /sys/class/tty/console/active). It reads /sys
// under root.
func IsConsole(root, port string) bool {
	active, err := os.ReadFile(filepath.Join(root, "sys/class/tty/console/active"))
	return err == nil && slices.Contains(strings.Fields(string(active)), port)
}
