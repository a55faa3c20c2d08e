package durable

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const ext4 = unix.EXT4_SUPER_MAGIC

func TestVolatile(t *testing.T) {
	root := t.TempDir()
	spool := filepath.Join(root, "var/lib/fieldpost")
	for _, dir := range []string{spool, filepath.Join(root, "proc/self"), filepath.Join(root, "sys/dev/block")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../../devices/virtual/block/zram0", filepath.Join(root, "sys/dev/block/252:0")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../devices/platform/mmc0/block/mmcblk0/mmcblk0p2", filepath.Join(root, "sys/dev/block/179:2")); err != nil {
		t.Fatal(err)
	}
	disk, zram := unix.Mkdev(179, 2), unix.Mkdev(252, 0)
	for _, c := range []struct {
		name, dir, mounts, want string
		kinds                   map[string]int64
		device                  uint64
	}{
		{"a card", spool, "", "", map[string]int64{spool: ext4}, disk},
		{"tmpfs", spool, "", "in memory (tmpfs)", map[string]int64{spool: unix.TMPFS_MAGIC}, 0},
		{"ramfs", spool, "", "in memory (ramfs)", map[string]int64{spool: unix.RAMFS_MAGIC}, 0},
		{"ext4 on zram", spool, "", "in memory (zram0)", map[string]int64{spool: ext4}, zram},
		{"not there yet, on tmpfs", spool + "/a/b", "", "in memory (tmpfs)", map[string]int64{spool: unix.TMPFS_MAGIC}, 0},
		{
			"overlayroot", spool,
			"22 1 0:20 / / rw - overlay overlayroot rw,lowerdir=/media/root-ro,upperdir=/media/root-rw/overlay,workdir=/w\n",
			"on an overlay whose changes are in memory",
			map[string]int64{spool: unix.OVERLAYFS_SUPER_MAGIC, "/media/root-rw/overlay": unix.TMPFS_MAGIC}, 0,
		},
		{
			"an overlay whose upper directory only the initramfs had", spool,
			"22 1 0:20 / / rw - overlay overlay rw,lowerdir=/lower,upperdir=/upper/data,workdir=/w\n",
			"on an overlay whose changes are in memory",
			map[string]int64{spool: unix.OVERLAYFS_SUPER_MAGIC}, 0,
		},
		{
			"a container's", spool,
			"22 1 0:20 / / rw - overlay overlay rw,lowerdir=/l,upperdir=/var/lib/a\\040b/diff,workdir=/w\n" +
				"23 22 0:21 / /dev rw - tmpfs tmpfs rw\n",
			"on an overlay, perhaps a container's",
			map[string]int64{spool: unix.OVERLAYFS_SUPER_MAGIC, "/var/lib/a b/diff": ext4}, 0,
		},
	} {
		if err := os.WriteFile(filepath.Join(root, "proc/self/mountinfo"), []byte(c.mounts), 0o644); err != nil {
			t.Fatal(err)
		}
		got := volatile(c.dir, root, func(path string) (int64, uint64, error) {
			kind, ok := c.kinds[path]
			if !ok {
				return 0, 0, errors.New("no such directory")
			}
			return kind, c.device, nil
		})
		if c.want == "" && got != "" || !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// What this machine says agrees with statfs.
func TestVolatileHere(t *testing.T) {
	var fs unix.Statfs_t
	for _, dir := range []string{"/proc", "/dev", "/sys", "/dev/shm", t.TempDir()} {
		if err := unix.Statfs(dir, &fs); err != nil {
			continue // not every machine has it
		}
		if got, want := strings.Contains(Volatile(dir), "tmpfs"), fs.Type == unix.TMPFS_MAGIC; got != want {
			t.Errorf("%s: %q, of type %#x", dir, Volatile(dir), fs.Type)
		}
	}
}
