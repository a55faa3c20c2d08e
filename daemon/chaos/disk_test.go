//go:build chaos && linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/records"
	"fieldpost/daemon/spool"

	"golang.org/x/sys/unix"
)

// chaosMount is the variable of the environment that says that this process has its own
// mount namespace and may mount file systems.
const chaosMount = "FIELDPOST_CHAOS_MOUNT"

// spoolDisk is the file system of the spool: a small one of its own, or only a directory
// if mounting is not allowed.
type spoolDisk struct {
	t    *testing.T
	dir  string
	mine bool // it may be filled and made read-only
	over int  // number of others mounted over it
}

func mountDisk(t *testing.T, dir string) *spoolDisk {
	t.Helper()
	d := &spoolDisk{t: t, dir: dir, mine: os.Getenv(chaosMount) == "1"}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if !d.mine {
		t.Logf("NOT TESTED: full and read-only disk; they take root, and %s=1 in a mount namespace of its own", chaosMount)
		return d
	}
	if err := unix.Mount("chaos", dir, "tmpfs", 0, "size=8m,mode=0700"); err != nil {
		t.Fatalf("mount a disk for the spool: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			keep(t, dir)
		}
		for range 1 + d.over {
			if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
				t.Errorf("unmount the spool's disk: %v", err)
			}
		}
	})
	return d
}

// mostOver limits the file systems mounted over each other, because the lower ones take
// memory.
const mostOver = 8

// takeAway mounts another file system over the spool, or removes its files, or the
// directory too, or one file, a segment if there is one.
func (d *spoolDisk) takeAway(random *rand.Rand) (what string) {
	d.t.Helper()
	names, err := filepath.Glob(filepath.Join(d.dir, "*"))
	if err != nil {
		d.t.Fatal(err)
	}
	way := random.IntN(4)
	switch {
	case way <= 1 && !d.mine:
		what = "removed"
		for range 100 { // the daemon keeps writing files
			if err = os.RemoveAll(d.dir); !errors.Is(err, unix.ENOTEMPTY) {
				break
			}
		}
	case way == 0 && d.over < mostOver:
		what = "mounted over"
		err = unix.Mount("chaos", d.dir, "tmpfs", 0, "size=8m,mode=0700")
		d.over++
	case way <= 2 && len(names) > 0:
		what = "robbed of a file"
		if segments := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return filepath.Ext(name) != ".seg" }); len(segments) > 0 {
			names = segments
		}
		err = removeFiles(names[random.IntN(len(names))])
	default:
		what = "emptied"
		err = removeFiles(names...)
	}
	if err != nil {
		d.t.Fatalf("spool %s: %v", what, err)
	}
	return what
}

// removeFiles removes files, if they are still there.
func removeFiles(names ...string) (err error) {
	for _, name := range names {
		if e := os.Remove(name); !errors.Is(e, fs.ErrNotExist) { // the daemon keeps writing files
			err = errors.Join(err, e)
		}
	}
	return err
}

// whole reports whether the directory has all files of a spool in use.
func (d *spoolDisk) whole() bool {
	for _, name := range []string{"lock", "run", "identity", "acks", "orders.journal"} {
		if _, err := os.Stat(filepath.Join(d.dir, name)); err != nil {
			return false
		}
	}
	return true
}

// holdsRemoved reports whether a process has a removed file of the spool open, and so has not
// noticed.
func (d *spoolDisk) holdsRemoved(pid int) bool {
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	return slices.ContainsFunc(links, func(link string) bool {
		name, err := os.Readlink(link)
		return err == nil && filepath.Dir(name) == d.dir && strings.HasSuffix(name, " (deleted)")
	})
}

// takeAway removes the spool or files of it while the daemon runs, and waits until the daemon
// has noticed and has rewritten what it can. A daemon that is killed before that cannot know.
func (c *testbed) takeAway() func() {
	c.checker.setDiskFault(true)
	what := c.disk.takeAway(c.random)
	pid := c.child.cmd.Process.Pid
	if !c.checker.wait(daemontest.Patience, func() bool {
		return c.disk.whole() && !c.checker.diskDown && !c.disk.holdsRemoved(pid)
	}) {
		c.t.Errorf("the spool was %s, and the daemon has not rewritten it in %v", what, daemontest.Patience)
	}
	c.checker.mu.Lock()
	c.checker.count["spool "+what]++
	c.checker.gone = c.now()
	c.checker.mu.Unlock()
	c.checker.setDiskFault(false)
	return nil
}

// keep copies the spool to a directory that is kept.
func keep(t *testing.T, dir string) {
	_ = os.Remove(filepath.Join(dir, "filler"))
	if err := os.CopyFS(dir+".kept", os.DirFS(dir)); err != nil {
		t.Log(err)
	}
}

// fill fills the disk.
func (d *spoolDisk) fill() {
	d.t.Helper()
	f, err := os.Create(filepath.Join(d.dir, "filler"))
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 64<<10); ; {
		if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
			return
		} else if err != nil {
			d.t.Fatal(err)
		}
	}
}

// clear makes room on the disk again.
func (d *spoolDisk) clear() {
	d.t.Helper()
	if err := os.Remove(filepath.Join(d.dir, "filler")); err != nil {
		d.t.Fatal(err)
	}
}

// protect makes the disk read-only, or ends that. No file may be open for writing.
func (d *spoolDisk) protect(on bool) {
	d.t.Helper()
	flags := uintptr(unix.MS_REMOUNT)
	if on {
		flags |= unix.MS_RDONLY
	}
	if err := unix.Mount("chaos", d.dir, "tmpfs", flags, "size=8m,mode=0700"); err != nil {
		d.t.Fatalf("remount the spool's disk, read-only %v: %v", on, err)
	}
}

// flip flips some bits of a segment, if there is one. It returns the segment's name and
// the readings and edges that it contained.
func (c *testbed) flip() (name string, held []number) {
	c.t.Helper()
	names, err := filepath.Glob(filepath.Join(c.disk.dir, "*.seg"))
	if err != nil {
		c.t.Fatal(err)
	}
	if len(names) == 0 {
		return "", nil
	}
	name = names[c.random.IntN(len(names))]
	data := c.get(name)
	if len(data) == 0 {
		return "", nil
	}
	held = c.contents(filepath.Base(name), data)
	for range 1 + c.random.IntN(3) {
		data[c.random.IntN(len(data))] ^= 1 << c.random.IntN(8)
	}
	c.put(name, data)
	return filepath.Base(name), held
}

// contents reads a segment with a spool that has no others.
func (c *testbed) contents(name string, data []byte) (held []number) {
	c.t.Helper()
	dir, err := os.MkdirTemp(c.dir, "segment-")
	if err != nil {
		c.t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	c.put(filepath.Join(dir, name), data)
	c.put(filepath.Join(dir, "identity"), c.get(filepath.Join(c.disk.dir, "identity"))) // it has the id of these runs' spool
	s, err := records.Open(spool.Options{Dir: dir, Clock: c.clock})
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }() // Run reads the file
	for n := 0; ; n++ {
		i, ok := s.Next()
		for st := s.Stats(); !ok && n < st.Pending(); i, ok = s.Next() {
			<-s.Ready()
		}
		if !ok {
			break
		}
		if r := i.Head; r.Seq > 0 {
			held = append(held, number{r.Sensor, runOf(r.Source.Spool, r.Run), r.Seq})
		}
	}
	cancel()
	<-ended
	if err := s.Close(); err != nil {
		c.t.Fatal(err)
	}
	return held
}
