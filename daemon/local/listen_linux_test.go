package local

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// socketPath is a short path for a socket.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fieldpost")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "fieldpost.sock")
}

func opened(t *testing.T, path string) listener {
	t.Helper()
	l, err := listen(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// The socket is for its user and group, whatever the umask.
func TestMode(t *testing.T) {
	for _, umask := range []int{0, 0o077, 0o777} {
		path := socketPath(t)
		before := syscall.Umask(umask)
		l, err := listen(path)
		syscall.Umask(before)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Lstat(path)
		if err != nil || info.Mode() != fs.ModeSocket|mode {
			t.Errorf("umask %#o: %v, %v", umask, info.Mode(), err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
}

// It is never open to more than that, not for a moment: before it has its name
// it has been open to its user alone.
func TestModeBeforeItIsInPlace(t *testing.T) {
	path := socketPath(t)
	defer syscall.Umask(syscall.Umask(0))
	l, err := bind(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if info, err := os.Lstat(path); err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("it is %v, %v", info.Mode(), err)
	}
}

// What a crash has left is replaced, half-made ones too.
func TestStaleSocket(t *testing.T) {
	path := socketPath(t)
	for _, name := range []string{path, path + ".new"} {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		l.Close()
	}
	l := opened(t, path)
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	there, p, err := l.accept()
	if err != nil {
		t.Fatal(err)
	}
	there.Close()
	if p.UID != uint32(os.Getuid()) || p.GID != uint32(os.Getgid()) || p.PID != int32(os.Getpid()) {
		t.Errorf("it was %+v, want us", p)
	}
	if _, err := os.Lstat(path + ".new"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("half-made one: %v", err)
	}
}

// One that is answered is not replaced, and goes on being answered.
func TestLiveSocket(t *testing.T) {
	path := socketPath(t)
	l := opened(t, path)
	if _, err := listen(path); err == nil || !strings.Contains(err.Error(), "another daemon answers at") {
		t.Errorf("got %v", err)
	}
	if !l.intact() {
		t.Error("it was replaced all the same")
	}
}

// Who was replaced does not take away the socket of the one after it.
func TestCloseLeavesAnothersSocket(t *testing.T) {
	path := socketPath(t)
	first := opened(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if first.intact() {
		t.Error("a removed socket counts as intact")
	}
	second := opened(t, path)
	if first.intact() {
		t.Error("another's socket counts as intact")
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if !second.intact() {
		t.Error("the second's socket is gone")
	}
}

func TestSocketCannotBeMade(t *testing.T) {
	path := socketPath(t)
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]string{
		path: "is not a socket; remove it",
		filepath.Join(filepath.Dir(path), "no", "x"):                   "no such file or directory",
		filepath.Join(path, "x"):                                       "not a directory",
		filepath.Join(filepath.Dir(path), strings.Repeat("long/", 20)): "path is longer than 107 bytes",
	} {
		if _, err := listen(p); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "open socket: ") {
			t.Errorf("%s: %v, want %s", p, err, want)
		}
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "mine" {
		t.Errorf("the file has become %q, %v", b, err)
	}
	// A directory in place of the half-made one.
	path = socketPath(t)
	if err := os.MkdirAll(filepath.Join(path+".new", "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := listen(path); err == nil {
		t.Error("opened over a directory")
	}
}
