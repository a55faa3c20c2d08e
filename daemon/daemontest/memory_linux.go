package daemontest

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// MemoryGroup is a control group with a limit of memory: the kernel kills a
// process in it when all of them together need more. Its methods work on nil,
// which limits nothing.
type MemoryGroup struct {
	t   testing.TB
	dir string
	v2  bool
}

// NewMemoryGroup makes a control group of this name, version 1 or 2, with a
// limit in bytes, until the end of the test; end its processes before. It gives
// nil where that cannot be, and says so: it takes root and the memory controller.
func NewMemoryGroup(t testing.TB, name string, limit int) *MemoryGroup {
	t.Helper()
	for _, root := range []string{"/sys/fs/cgroup/memory", "/sys/fs/cgroup"} {
		m := &MemoryGroup{t: t, dir: filepath.Join(root, name), v2: root == "/sys/fs/cgroup"}
		var fs unix.Statfs_t
		if unix.Statfs(root, &fs) != nil || fs.Type != unix.CGROUP2_SUPER_MAGIC && fs.Type != unix.CGROUP_SUPER_MAGIC || os.Mkdir(m.dir, 0o755) != nil {
			continue
		}
		file := "memory.limit_in_bytes"
		if m.v2 {
			file = "memory.max"
		}
		if err := os.WriteFile(filepath.Join(m.dir, file), []byte(strconv.Itoa(limit)), 0); err != nil {
			_ = os.Remove(m.dir)
			continue
		}
		_ = os.WriteFile(filepath.Join(m.dir, "memory.swap.max"), []byte("0"), 0) // where there is swap
		t.Cleanup(m.remove)
		t.Logf("in a control group: %s of %d bytes", filepath.Join(m.dir, file), limit)
		return m
	}
	t.Log("NOT TESTED: the limit of memory; it takes root and a control group with the memory controller")
	return nil
}

func (m *MemoryGroup) remove() {
	if err := os.Remove(m.dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		m.t.Errorf("remove the control group: %v", err)
	}
}

// Command gives the words of a command that runs a program in the group.
func (m *MemoryGroup) Command(program string, args ...string) []string {
	if m == nil {
		return append([]string{program}, args...)
	}
	enter := []string{"/bin/sh", "-c", `echo $$ >"$0" && exec "$@"`, filepath.Join(m.dir, "cgroup.procs"), program}
	return append(enter, args...)
}

// Peak is the most memory that the group has had at once, in bytes; 0 where the
// kernel does not say.
func (m *MemoryGroup) Peak() int64 {
	if m == nil {
		return 0
	}
	name := "memory.max_usage_in_bytes"
	if m.v2 {
		name = "memory.peak" // from Linux 5.19 on
	}
	text, err := os.ReadFile(filepath.Join(m.dir, name))
	n, bad := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil || bad != nil {
		return 0
	}
	return n
}

// Killed is how many processes of the group the kernel has killed for memory.
func (m *MemoryGroup) Killed() int {
	if m == nil {
		return 0
	}
	m.t.Helper()
	name := "memory.oom_control"
	if m.v2 {
		name = "memory.events"
	}
	f, err := os.Open(filepath.Join(m.dir, name))
	if err != nil {
		m.t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var n int
		if _, err := fmt.Sscanf(lines.Text(), "oom_kill %d", &n); err == nil {
			return n
		}
	}
	m.t.Fatalf("%s has no oom_kill", name)
	return 0
}
