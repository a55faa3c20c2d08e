package memory

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// cleanMappings returns the parts of the address space that are mapped from the program's file,
// may not be written, and are as in the file. The last is not so for tables that the dynamic
// linker has written to before it protected them (proc_pid_smaps(5), Anonymous).
func cleanMappings() ([]mapping, error) {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var clean []mapping
	var last mapping
	candidate := false
	for lines := bufio.NewScanner(f); ; {
		if !lines.Scan() {
			return clean, lines.Err()
		}
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) >= 5 && strings.Contains(fields[0], "-"): // 00400000-00a3e000 r-xp 00000000 fe:00 1134 /usr/bin/fieldpost
			candidate = len(fields) > 5 && (fields[1] == "r-xp" || fields[1] == "r--p") && strings.Join(fields[5:], " ") == program
			if _, err := fmt.Sscanf(fields[0], "%x-%x", &last.start, &last.end); err != nil {
				return nil, fmt.Errorf("read smaps: %q: %w", lines.Text(), err)
			}
		case len(fields) >= 2 && fields[0] == "Anonymous:" && fields[1] == "0" && candidate:
			clean = append(clean, last)
		}
	}
}

// unmap drops the pages of mappings; their next use maps them again (madvise(2), MADV_DONTNEED).
func unmap(all []mapping) error {
	for _, m := range all {
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, m.start, m.end-m.start, unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("unmap pages of the program: madvise: %w", errno)
		}
	}
	return nil
}
