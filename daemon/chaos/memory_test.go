//go:build chaos && linux

package chaos

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// The unit's limits; see deploy/fieldpost.service.
const (
	unitMemoryMax = 128 << 20
	unitGoMemory  = "GOMEMLIMIT=96MiB"
	unitGoGC      = "GOGC=50"
)

// memoryLimit is a control group with the unit's MemoryMax, for the daemon's
// processes: the kernel kills one that needs more.
type memoryLimit struct {
	t   *testing.T
	dir string
	v2  bool
}

// limitMemory makes a control group. It gives nil where that cannot be, and says
// so: without root, and for a program with the race detector, which takes many
// times the memory.
func limitMemory(t *testing.T, name string) *memoryLimit {
	t.Helper()
	if strings.Contains(os.Getenv("CHAOS_BUILD"), "-race") {
		t.Log("NOT TESTED: the unit's limit of memory; the race detector takes more")
		return nil
	}
	m := &memoryLimit{t: t}
	for _, root := range []string{"/sys/fs/cgroup/memory", "/sys/fs/cgroup"} {
		m.dir, m.v2 = filepath.Join(root, name), root == "/sys/fs/cgroup"
		if os.Mkdir(m.dir, 0o755) != nil {
			continue
		}
		limit := "memory.limit_in_bytes"
		if m.v2 {
			limit = "memory.max"
		}
		if err := os.WriteFile(filepath.Join(m.dir, limit), []byte(strconv.Itoa(unitMemoryMax)), 0); err != nil {
			_ = os.Remove(m.dir)
			continue
		}
		t.Cleanup(m.remove)
		return m
	}
	t.Log("NOT TESTED: the unit's limit of memory; it takes root and a control group with the memory controller")
	return nil
}

func (m *memoryLimit) remove() {
	if err := os.Remove(m.dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		m.t.Errorf("remove the control group: %v", err)
	}
}

// command is a command that runs in the group.
func (m *memoryLimit) command(program string, args ...string) []string {
	if m == nil {
		return append([]string{program}, args...)
	}
	enter := []string{"/bin/sh", "-c", `echo $$ >"$0" && exec "$@"`, filepath.Join(m.dir, "cgroup.procs"), program}
	return append(enter, args...)
}

// peak is the most that the group has had at once, in bytes.
func (m *memoryLimit) peak() int64 {
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

// killed is how many processes the kernel has killed for want of memory.
func (m *memoryLimit) killed() int {
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
