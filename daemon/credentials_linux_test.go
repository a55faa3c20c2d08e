package daemon_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"fieldpost/daemon"
	"fieldpost/daemon/api"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/message"
	"fieldpost/daemon/uplink"

	"golang.org/x/sys/unix"
)

// threads counts the threads of this process.
func threads(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// swapForFIFOs puts FIFOs in place of the files. Whoever opens one without care hangs in
// the kernel, until mend is called.
func swapForFIFOs(s *daemontest.Site) (mend func()) {
	s.T.Helper()
	paths := []string{s.Files.CA, s.Files.Certificate, s.Files.Key}
	for _, p := range paths {
		if err := errors.Join(os.Rename(p, p+".away"), unix.Mkfifo(p, 0o600)); err != nil {
			s.T.Fatal(err)
		}
	}
	return func() {
		for _, p := range paths {
			held, err := os.OpenFile(p, os.O_RDWR, 0) // whoever waits for a writer has one
			if err == nil {
				err = errors.Join(os.Rename(p+".away", p), held.Close())
			}
			if err != nil {
				s.T.Error(err)
			}
		}
	}
}

// While the files of the credentials hang, sixty calls for the status take no
// thread each, readings go on, the fault is told, and the end comes in time.
func TestCredentialsHang(t *testing.T) {
	t.Parallel()
	s := daemontest.NewSite(t, nil)
	socket := daemontest.SocketPath(t)
	taken, linked := make(chan message.Record, 4096), make(chan uplink.Status, 256)
	r := &daemontest.Running{Acked: make(chan message.Record, 4096), Linked: linked}
	read := func(path string, _ int64) ([]byte, error) { return os.ReadFile(path) } // which takes a FIFO for a file
	r.Stop = s.Launch(daemon.Options{
		Config: s.Config("", ""), Socket: socket, Log: daemontest.Log(t),
		Taken: func(rec message.Record) {
			if rec.Kind == message.Fault {
				taken <- rec
			}
		},
		Acked: func(rec message.Record) { r.Acked <- rec }, Linked: daemontest.ConnectionChanges(linked), ReadFile: read,
	})
	r.AwaitLink(t)
	whole := daemontest.AwaitStatus(t, socket, "certificate", func(r api.Status) bool { return r.Certificate.Error == "" })
	mend := swapForFIFOs(s)
	defer mend()
	before := threads(t)
	for range 60 {
		daemontest.AwaitStatus(t, socket, "status", func(api.Status) bool { return true })
	}
	if after := threads(t); after > before+10 { // others run beside this
		t.Errorf("%d threads, and %d before", after, before)
	}
	now := daemontest.AwaitStatus(t, socket, "hang", func(r api.Status) bool { return len(r.Faults) > 0 })
	if f := now.Faults[0]; f.Code != "certificate_stuck" || f.Subject != "broker" || !strings.Contains(f.Detail, "has not answered for 10s") {
		t.Errorf("fault %+v", f)
	}
	if c := now.Certificate; !c.Expires.Equal(whole.Certificate.Expires) || !strings.Contains(c.Error, "the disk has not answered for") {
		t.Errorf("certificate %+v, before the hang %+v", c, whole.Certificate)
	}
	daemontest.Await(t, "fault", taken, func(rec message.Record) bool { return strings.Contains(fmt.Sprint(rec.Fields), "certificate_stuck") })
	daemontest.Await(t, "reading", r.Acked, func(rec message.Record) bool { return rec.Kind == message.Reading && rec.Seq > 100 })
	if err := r.Stop(); err != nil {
		t.Errorf("the end: %v", err)
	}
}

// A FIFO in place of a file is no file: that is said at once, and the link goes
// on with what it has.
func TestCredentialsAreNoFiles(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	_, socket := s.StartWithSocket(s.Config("", ""))
	daemontest.AwaitStatus(t, socket, "link", func(r api.Status) bool { return r.Link.Connected })
	mend := swapForFIFOs(s)
	daemontest.AwaitStatus(t, socket, "certificate that is none", func(r api.Status) bool {
		return r.Link.Connected && strings.Contains(r.Certificate.Error, "want a regular file, not a FIFO")
	})
	mend()
	daemontest.AwaitStatus(t, socket, "certificate", func(r api.Status) bool { return r.Certificate.Error == "" && len(r.Faults) == 0 })
}
