package spool

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A file in memory is written without Go's scheduler, any other one as usual, with the same
// outcome.
func TestQuickFile(t *testing.T) {
	fd, err := unix.MemfdCreate("risks", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	memory := os.NewFile(uintptr(fd), "memory")
	disk, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	if _, quick := quickFile(memory).(*memoryFile); !quick {
		t.Error("a file in memory is written as any other")
	}
	for _, f := range []*os.File{memory, disk} {
		x := quickFile(f)
		for _, text := range []string{strings.Repeat("long", 3000), "short"} {
			if n, err := x.WriteAt([]byte(text), 0); n != len(text) || err != nil {
				t.Errorf("%s: %d, %v", f.Name(), n, err)
			}
		}
		if _, err := x.WriteAt([]byte("end"), 11990); err != nil {
			t.Error(err)
		}
		b := make([]byte, 12000)
		if n, err := f.ReadAt(b, 0); n != len(b) || string(b[:10]) != "shortonglo" || string(b[11988:11995]) != "loendon" {
			t.Errorf("%s: %d, %v: %q and %q", f.Name(), n, err, b[:10], b[11988:11995])
		}
		if err := x.Close(); err != nil {
			t.Error(err)
		}
		if _, err := x.WriteAt([]byte("late"), 0); !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s: a closed one: %v", f.Name(), err)
		}
	}
}

// The kernel's refusal is the error.
func TestQuickFileRefused(t *testing.T) {
	fd, err := unix.MemfdCreate("risks", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "memory")
	defer f.Close()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE); err != nil {
		t.Fatal(err)
	}
	if _, err := quickFile(f).WriteAt([]byte("x"), 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("write: %v", err)
	}
}
