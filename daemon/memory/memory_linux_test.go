package memory

import (
	"os"
	"regexp"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// fileKB returns how much of files is mapped and present, proc_pid_status(5).
func fileKB(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(string(regexp.MustCompile(`RssFile:\s*(\d+) kB`).FindSubmatch(text)[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// The pages of the program's file are unmapped, and it goes on.
func TestRelease(t *testing.T) {
	program, err := cleanMappings()
	if err != nil || len(program) < 2 {
		t.Fatalf("the program is mapped at %x: %v", program, err)
	}
	for _, m := range program {
		if m.end <= m.start {
			t.Errorf("mapping %x", m)
		}
	}
	if err := unmap(program); err != nil {
		t.Fatal(err)
	}
	least := fileKB(t)
	for _, m := range program { // map it all again
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, m.start, m.end-m.start, unix.MADV_POPULATE_READ); errno != 0 {
			t.Fatalf("madvise: %v (MADV_POPULATE_READ needs Linux 5.14)", errno)
		}
	}
	before := fileKB(t)
	if before < least+500 {
		t.Fatalf("%d KB mapped of %d KB more, which says nothing", before, least)
	}
	if err := Release(); err != nil {
		t.Fatal(err)
	}
	if after := fileKB(t); after > (least+before)/2 {
		t.Errorf("%d KB of files are mapped, %d before, %d at least", after, before, least)
	}
}
