package systemd

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// message is what a manager received: the text, and what each attached file
// says when read.
type message struct {
	text  string
	files []*os.File
}

// listen makes a notification socket and gives what arrives on it. Attached
// files are closed as soon as they belong to a barrier.
func listen(t *testing.T, name string) <-chan message {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", name)
	got := make(chan message, 100)
	go func() {
		defer close(got)
		for {
			text, oob := make([]byte, 4096), make([]byte, 4096)
			n, oobn, _, _, err := conn.ReadMsgUnix(text, oob)
			if err != nil {
				return
			}
			m := message{string(text[:n]), attached(oob[:oobn])}
			got <- m
			if m.text == "BARRIER=1" {
				for _, f := range m.files {
					f.Close()
				}
			}
		}
	}()
	return got
}

func attached(oob []byte) []*os.File {
	var files []*os.File
	messages, _ := unix.ParseSocketControlMessage(oob)
	for _, m := range messages {
		fds, _ := unix.ParseUnixRights(&m)
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "attached"))
		}
	}
	return files
}

// filled returns an open file with that content.
func filled(t *testing.T, content string) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestStoreHandles(t *testing.T) {
	for what, socket := range map[string]string{
		"path":     filepath.Join(t.TempDir(), "notify"),
		"abstract": fmt.Sprintf("@fieldpost-test-%d", os.Getpid()),
	} {
		t.Run(what, func(t *testing.T) {
			got := listen(t, socket)
			files := []*os.File{filled(t, "pump"), filled(t, "valve")}
			if err := StoreHandles([]string{"safe-pump", "safe-valve"}, files); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"pump", "valve"} {
				m := <-got
				if want := "FDSTORE=1\nFDNAME=safe-" + name; m.text != want {
					t.Errorf("sent %q, want %q", m.text, want)
				}
				if len(m.files) != 1 {
					t.Fatalf("%d files came with %q, want 1", len(m.files), m.text)
				}
				if content, err := io.ReadAll(m.files[0]); err != nil || string(content) != name {
					t.Errorf("the file of %q says %q (%v)", m.text, content, err)
				}
				m.files[0].Close()
			}
			if m := <-got; m.text != "BARRIER=1" || len(m.files) != 1 {
				t.Errorf("then came %q with %d files, want a barrier", m.text, len(m.files))
			}
			for _, f := range files {
				if _, err := f.Stat(); err != nil {
					t.Errorf("our own copy was closed: %v", err)
				}
			}
		})
	}
}

func TestStoreHandlesGoesOn(t *testing.T) {
	got := listen(t, filepath.Join(t.TempDir(), "notify"))
	closed := filled(t, "")
	closed.Close()
	err := StoreHandles([]string{"a:b", "safe-closed", "safe-none", "safe-pump"}, []*os.File{filled(t, ""), closed, nil, filled(t, "")})
	for _, want := range []string{`"a:b": want a name of printable ASCII`, `"safe-closed"`, `"safe-none": no file`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %s", err, want)
		}
	}
	if m := <-got; m.text != "FDSTORE=1\nFDNAME=safe-pump" {
		t.Errorf("sent %q, want the one good handle", m.text)
	}
}

func TestRemoveHandle(t *testing.T) {
	got := listen(t, filepath.Join(t.TempDir(), "notify"))
	if err := RemoveHandle("safe-pump"); err != nil {
		t.Fatal(err)
	}
	if m := <-got; m.text != "FDSTOREREMOVE=1\nFDNAME=safe-pump" || len(m.files) != 0 {
		t.Errorf("sent %q with %d files", m.text, len(m.files))
	}
	if m := <-got; m.text != "BARRIER=1" {
		t.Errorf("then came %q, want a barrier", m.text)
	}
	for _, bad := range []string{"", "a:b", "a\nREADY=1", strings.Repeat("x", 256)} {
		if RemoveHandle(bad) == nil {
			t.Errorf("name %q was sent", bad)
		}
	}
}

func TestNoManager(t *testing.T) {
	gone := filepath.Join(t.TempDir(), "gone")
	for _, c := range []struct {
		socket string
		want   error
	}{{"", ErrNoManager}, {gone, unix.ENOENT}, {"vsock:2:1", nil}} {
		t.Setenv("NOTIFY_SOCKET", c.socket)
		for what, err := range map[string]error{
			"store":  StoreHandles([]string{"safe-pump"}, []*os.File{filled(t, "")}),
			"remove": RemoveHandle("safe-pump"),
		} {
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("%s with socket %q: %v, want %v", what, c.socket, err, c.want)
			}
		}
	}
	if StoreHandles([]string{"one"}, nil) == nil {
		t.Error("one name for no file was accepted")
	}
}

// TestInheritedHandles starts this test again as systemd would: with files
// from descriptor 3 on, and LISTEN_PID the process's own id.
func TestInheritedHandles(t *testing.T) {
	if os.Getenv("FIELDPOST_TEST_INHERIT") != "" {
		for name, f := range InheritedHandles() {
			content, err := io.ReadAll(f)
			fmt.Printf("got %s=%s %v\n", name, content, err)
		}
		fmt.Printf("left %q, again %d\n", os.Getenv("LISTEN_PID")+os.Getenv("LISTEN_FDS")+os.Getenv("LISTEN_FDNAMES"), len(InheritedHandles()))
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const own = `LISTEN_PID=$$ exec "$0" -test.run=^TestInheritedHandles$`
	const others = `LISTEN_PID=1 exec "$0" -test.run=^TestInheritedHandles$`
	for _, c := range []struct {
		what, script, fds, names string
		want                     []string
	}{
		{"two", own, "2", "safe-pump:safe-valve", []string{"got safe-pump=pump <nil>", "got safe-valve=valve <nil>"}},
		{"same name twice", own, "2", "safe-pump:safe-pump", []string{"got safe-pump=pump <nil>"}},
		{"no names", own, "1", "", []string{"got unknown=pump <nil>"}},
		{"for another process", others, "2", "safe-pump:safe-valve", nil},
		{"none", own, "0", "", nil},
		{"less than none", own, "-3", "", nil},
		{"no number", own, "two", "", nil},
	} {
		t.Run(c.what, func(t *testing.T) {
			cmd := exec.Command("/bin/sh", "-c", c.script, self)
			cmd.ExtraFiles = []*os.File{filled(t, "pump"), filled(t, "valve")}
			cmd.Env = append(os.Environ(), "FIELDPOST_TEST_INHERIT=1", "GORACE=atexit_sleep_ms=0", "LISTEN_FDS="+c.fds, "LISTEN_FDNAMES="+c.names)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			var got []string
			for line := range strings.Lines(string(out)) {
				if strings.HasPrefix(line, "got ") {
					got = append(got, strings.TrimSpace(line))
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if !strings.Contains(string(out), `left "", again 0`) {
				t.Errorf("the environment was left as it was:\n%s", out)
			}
		})
	}
}
