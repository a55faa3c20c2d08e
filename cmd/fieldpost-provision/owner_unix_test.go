//go:build unix

package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

// The configuration keeps its mode and, where root rewrites it, its owner: the daemon must
// still be able to read it.
func TestConfigurationKeepsItsOwner(t *testing.T) {
	s := newSite(t)
	s.configure(strings.Replace(configuration, "a1b2c3d4e5", "other", 1))
	want := fmt.Sprintf("%d:%d", os.Geteuid(), os.Getegid())
	if os.Geteuid() == 0 {
		want = "1234:4321"
		must(t, os.Chown(s.path("fieldpost.yaml"), 1234, 4321))
	}
	must(t, os.Chmod(s.path("fieldpost.yaml"), 0o664))
	defer syscall.Umask(syscall.Umask(0o077))
	s.ok("--write-endpoint")
	info, err := os.Stat(s.path("fieldpost.yaml"))
	must(t, err)
	as := info.Sys().(*syscall.Stat_t)
	if got := fmt.Sprintf("%d:%d", as.Uid, as.Gid); got != want || info.Mode().Perm() != 0o664 {
		t.Errorf("owner %s, want %s, mode %v", got, want, info.Mode())
	}
	if s.read("fieldpost.yaml") != configuration {
		t.Error("it holds something else")
	}
}
