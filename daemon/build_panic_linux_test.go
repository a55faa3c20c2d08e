package daemon_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fieldpost/daemon"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/records"
	"fieldpost/daemon/spool"
	"fieldpost/daemon/systemd"
	"fieldpost/daemon/task"
	"fieldpost/sensors/board"
	"fieldpost/sensors/sim"
)

// sharing is a board whose lines have handles, and whose line GPIO13 panics when it is
// requested.
type sharing struct{ *sim.Board }

type sharedLine struct{ board.Output }

func (sharedLine) Handle() (*os.File, error) { return os.Open(os.DevNull) }

func (b sharing) Output(c board.OutputConfig) (board.Output, error) {
	if c.Line == "GPIO13" {
		panic("a mistake of the driver's")
	}
	line, err := b.Board.Output(c)
	return sharedLine{line}, err
}

// A panic while the daemon is built ends no process: the lines that are on already are made
// safe and handed to systemd, the rest are not touched, and the spool is closed.
func TestPanicWhileItIsBuilt(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	stored := storedNames(t)
	cfg := s.Config("", "  - {name: fan, pin: GPIO5, initial: on, safe: off}\n  - {name: lamp, pin: GPIO13, initial: on, safe: off}\n  - {name: siren, pin: GPIO6, initial: on, safe: off}")
	_, err := daemon.New(daemon.Options{
		Config: cfg, Board: sharing{s.Board}, Clock: s.Clock(), Log: daemontest.Log(t), Notify: &systemd.Notifier{}, Runtime: s.Dir,
	})
	if !errors.Is(err, task.ErrPanicked) || !strings.Contains(err.Error(), "a mistake of the driver's") {
		t.Errorf("New returned %v", err)
	}
	if high, driven := s.Board.Line("GPIO5").Level(); high || driven {
		t.Errorf("the fan is high %v, driven %v, want safe and released", high, driven)
	}
	on := slices.ContainsFunc(s.Board.Line("GPIO5").History(), func(c sim.Change) bool { return c.Driven && c.High })
	if h := s.Board.Line("GPIO6").History(); !on || len(h) > 0 {
		t.Errorf("the fan was on %v; the siren went %+v", on, h)
	}
	if got := stored(); !slices.Contains(got, "FDSTORE=1\nFDNAME=safe-fan@"+sim.Label+".5") {
		t.Errorf("systemd got %q", got)
	}
	again, err := records.Open(spool.Options{Dir: cfg.Spool.Dir, AtRisk: time.Second, MaxBytes: 1 << 20, Clock: s.Clock()})
	if err != nil {
		t.Fatalf("the spool was not let go: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

// storedNames is a systemd that takes handles. The function that it returns ends it and
// gives the messages that had come.
func storedNames(t *testing.T) (end func() []string) {
	t.Helper()
	path := filepath.Join(filepath.Dir(daemontest.SocketPath(t)), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("NOTIFY_SOCKET", path)
	var got []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			text, attached := make([]byte, 4096), make([]byte, 4096)
			n, m, _, _, err := l.ReadMsgUnix(text, attached)
			if err != nil {
				return
			}
			got = append(got, string(text[:n]))
			control, _ := unix.ParseSocketControlMessage(attached[:m])
			for _, c := range control {
				files, _ := unix.ParseUnixRights(&c)
				for _, fd := range files {
					_ = unix.Close(fd) // which answers a barrier
				}
			}
		}
	}()
	end = func() []string {
		l.Close()
		<-done
		return got
	}
	t.Cleanup(func() { end() })
	return end
}
