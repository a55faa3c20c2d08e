package durable

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Volatile says in a few words why a directory does not survive a reboot or a power cut:
// "in memory (tmpfs)". It returns "" if nothing speaks against it. The directory need not
// exist; then the nearest one above it counts. Any goroutine; it waits for the disk.
//
// Sources: statfs(2), the types of file systems; proc_pid_mountinfo(5); Linux,
// Documentation/filesystems/overlayfs.rst, upperdir.
func Volatile(dir string) string { return volatile(dir, "/", statfs) }

// statfs returns the type of the file system at path and its device number.
func statfs(path string) (kind int64, device uint64, err error) {
	var fs unix.Statfs_t
	var file unix.Stat_t
	if err := unix.Statfs(path, &fs); err != nil {
		return 0, 0, err
	}
	if err := unix.Stat(path, &file); err != nil {
		return 0, 0, err
	}
	return int64(fs.Type), uint64(file.Dev), nil // other types on 32 bits
}

// volatile is [Volatile] with the root of /proc and /sys, and statfs.
func volatile(dir, root string, statfs func(string) (int64, uint64, error)) string {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return ""
	}
	for {
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			dir = real
			break
		}
		if dir == filepath.Dir(dir) {
			return ""
		}
		dir = filepath.Dir(dir)
	}
	kind, device, err := statfs(dir)
	switch {
	case err != nil:
		return ""
	case inMemory(kind):
		return fmt.Sprintf("in memory (%s)", memoryKinds[kind])
	case kind == unix.OVERLAYFS_SUPER_MAGIC:
		if upper, _, err := statfs(upperDir(root, dir)); err == nil && !inMemory(upper) {
			return "on an overlay, perhaps a container's, which may be discarded"
		}
		return "on an overlay whose changes are in memory"
	}
	link, err := os.Readlink(filepath.Join(root, "sys/dev/block", fmt.Sprintf("%d:%d", unix.Major(device), unix.Minor(device))))
	if name := filepath.Base(link); err == nil && (strings.HasPrefix(name, "zram") || strings.HasPrefix(name, "ram")) {
		return fmt.Sprintf("in memory (%s)", name)
	}
	return ""
}

// memoryKinds are the file systems without a disk.
var memoryKinds = map[int64]string{unix.TMPFS_MAGIC: "tmpfs", unix.RAMFS_MAGIC: "ramfs"}

func inMemory(kind int64) bool { return memoryKinds[kind] != "" }

// upperDir returns the directory that has the changes of the overlay that dir is on. The
// result may be a path that only the initramfs had, or "".
func upperDir(root, dir string) string {
	text, err := os.ReadFile(filepath.Join(root, "proc/self/mountinfo"))
	if err != nil {
		return ""
	}
	at, upper := "", ""
	for line := range bytes.Lines(text) {
		place, source, ok := strings.Cut(strings.TrimSuffix(string(line), "\n"), " - ")
		before, after := strings.Fields(place), strings.Fields(source)
		if !ok || len(before) < 5 || len(after) < 3 {
			continue
		}
		// the last mount at a place hides the others
		if point := unescape(before[4]); within(dir, point) && len(point) >= len(at) {
			at, upper = point, ""
			for option := range strings.SplitSeq(after[2], ",") {
				if value, ok := strings.CutPrefix(option, "upperdir="); ok {
					upper = unescape(value)
				}
			}
		}
	}
	return upper
}

// within reports whether dir is point or is below it.
func within(dir, point string) bool {
	return dir == point || strings.HasPrefix(dir, strings.TrimSuffix(point, "/")+"/")
}

// unescape decodes a path of mountinfo.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
