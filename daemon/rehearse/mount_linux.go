package rehearse

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// mountSmall mounts a file system in memory of that size. It needs root.
func mountSmall(dir string, size int) (unmount func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, fmt.Sprintf("size=%d,mode=0700", size)); err != nil {
		return nil, err
	}
	return func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }, nil // it ends with the last user
}

// roomIn returns how much of the file system of dir is free for us, in bytes.
func roomIn(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("look at the file system of %s: %w", dir, err)
	}
	return st.Bavail * uint64(st.Bsize), nil
}
