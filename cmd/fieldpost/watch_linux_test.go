package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"fieldpost/daemon/client"
	"fieldpost/daemon/daemontest"
)

// window collects what a program writes to its terminal.
type window struct {
	*os.File
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{} // capacity one
}

func newWindow(t *testing.T) (*window, *os.File) {
	f, terminal := openTerminal(t)
	w := &window{File: f, more: make(chan struct{}, 1)}
	daemontest.Background(t, func(context.Context) error {
		buf := make([]byte, 4096)
		for {
			n, err := w.Read(buf)
			if err != nil {
				return nil // the terminal has been closed
			}
			w.mu.Lock()
			w.text.Write(buf[:n])
			w.mu.Unlock()
			select {
			case w.more <- struct{}{}:
			default:
			}
		}
	})
	t.Cleanup(func() { terminal.Close() }) // ends the read above
	return w, terminal
}

// shows waits until the window has got a text since the last call.
func (w *window) shows(t *testing.T, text string) {
	t.Helper()
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	for {
		w.mu.Lock()
		_, after, found := bytes.Cut(w.text.Bytes(), []byte(text))
		if found {
			after = slices.Clone(after)
			w.text.Reset()
			w.text.Write(after)
		}
		seen := w.text.String()
		w.mu.Unlock()
		if found {
			return
		}
		select {
		case <-w.more:
		case <-limit.C:
			t.Fatalf("the terminal never shows %q; it has %q", text, seen)
		}
	}
}

func (w *window) press(t *testing.T, keys string) {
	t.Helper()
	if _, err := w.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

// The view on the demo's daemon: its values, an order by keys, another size, and the
// terminal as it was before.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	daemontest.Background(t, func(ctx context.Context) error {
		// The first order switches the pump on for two thirds of an hour.
		return demo(ctx, demoOptions{Dir: dir, Orders: time.Hour, Out: new(bytes.Buffer), Log: slog.New(slog.DiscardHandler), Version: "test"})
	})
	socket := filepath.Join(dir, "fieldpost.sock")
	awaitAnswer(t, socket)

	w, terminal := newWindow(t)
	size := func(cols, rows uint16) {
		if err := unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: cols, Row: rows}); err != nil {
			t.Fatal(err)
		}
	}
	size(80, 24)
	before, err := term.GetState(int(terminal.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), "fieldpost", "watch", "--socket", socket, "--every", "100ms")
	c.Stdin, c.Stdout, c.Stderr = terminal, terminal, terminal
	c.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "NO_COLOR=1", "TERM=xterm")
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	w.shows(t, enterScreen)
	w.shows(t, "thing-greenhouse  fieldpost test")
	w.shows(t, "> pump  on ")
	w.shows(t, "temperature")
	w.press(t, "f")
	w.shows(t, "pump: off?")
	w.press(t, "n")
	w.shows(t, "not sent")
	w.press(t, "fy")
	w.shows(t, "done, pump is off")
	w.shows(t, "> pump  off for ")
	w.press(t, "oy")
	w.shows(t, "> pump  on  for ")
	size(60, 10)
	w.shows(t, "\x1b[2J")
	w.shows(t, "more)")
	w.press(t, "q")
	w.shows(t, leaveScreen)
	if err := c.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	after, err := term.GetState(int(terminal.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if *after != *before {
		t.Errorf("the terminal's mode was %+v and is %+v", before, after)
	}
}

// Signals end the view, and the terminal is as before.
func TestWatchEnds(t *testing.T) {
	w, terminal := newWindow(t)
	c := exec.CommandContext(t.Context(), "fieldpost", "watch", "--socket", filepath.Join(t.TempDir(), "none.sock"))
	c.Stdin, c.Stdout, c.Stderr = terminal, terminal, terminal
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	w.shows(t, "no daemon answers")
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	w.shows(t, leaveScreen)
	if err := c.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// Without a terminal it says what to use instead.
func TestWatchNeedsATerminal(t *testing.T) {
	c := exec.CommandContext(t.Context(), "fieldpost", "watch")
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := c.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "fieldpost status --watch") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestDecodeKeys(t *testing.T) {
	for _, c := range []struct {
		in   string
		want []client.Key
	}{
		{"oy", []client.Key{'o', 'y'}},
		{"\x1b[A\x1bOB\x1b[5~q", []client.Key{client.KeyUp, client.KeyDown, client.KeyPageUp, 'q'}},
		{"\x1b", []client.Key{client.KeyEscape}},
		{"\x1b[", nil},
		{"\x1b[1;5Ct", []client.Key{'t'}},
		{"\x1b[24~", nil},
		{"\x1b\x1b[B", []client.Key{client.KeyEscape, client.KeyDown}},
	} {
		if got := decodeKeys([]byte(c.in)); !slices.Equal(got, c.want) {
			t.Errorf("%q: %v, want %v", c.in, got, c.want)
		}
	}
}
