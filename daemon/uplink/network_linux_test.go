package uplink

import (
	"context"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"fieldpost/daemon/netwatch"
)

// inNamespace runs the present test again in its own network namespace, and reports
// whether this is that run.
func inNamespace(t *testing.T) bool {
	t.Helper()
	const mark = "FIELDPOST_TEST_NETWORK"
	if os.Getenv(mark) == "1" {
		return true
	}
	if _, err := exec.LookPath("ip"); err != nil || os.Geteuid() != 0 {
		t.Skip("needs root and ip(8)")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	again := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	again.Env = append(os.Environ(), mark+"=1")
	again.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := again.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("in a network of its own: %v\n%s", err, out)
	}
	return false
}

// With waits of hours, a link over the kernel's network connects as soon as an address, a
// route or a cable makes that possible.
func TestRealNetworkComes(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	ip := func(arguments string) {
		t.Helper()
		if out, err := exec.Command("ip", strings.Fields(arguments)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", arguments, err, out)
		}
	}
	ip("link set lo up")
	ip("link add one type veth peer name two")
	listener, err := net.Listen("tcp", "0.0.0.0:0")
	must(t, err)
	defer listener.Close()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	must(t, err)
	b := newBroker(t)
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			b.dialed <- c
		}
	}()
	c := b.config()
	c.Dial, c.watchNetwork = to(net.Dialer{}, "192.0.2.7:"+port), netwatch.Watch
	failed := make(chan struct{}, 100)
	c.Observe = func(s Status) {
		if s.Err != nil {
			failed <- struct{}{}
		}
	}
	l := runWaiting(t, c, hours)
	// The watch begins a moment after the failure, so the change is repeated until it is
	// noticed.
	comes := func(what, goes string) *peer {
		t.Helper()
		<-failed
		for range 100 {
			for command := range strings.SplitSeq(what, "; ") {
				ip(command)
			}
			select {
			case conn := <-b.dialed:
				b2 := *b
				b2.dialed = make(chan net.Conn, 1)
				b2.dialed <- conn
				return b2.accept(true)
			case <-time.After(10 * time.Second): // longer than the time between attempts
			}
			for command := range strings.SplitSeq(goes, "; ") {
				ip(command)
			}
		}
		t.Fatal("the link did not come to stand")
		return nil
	}
	p := comes("addr add 192.0.2.7/24 dev one", "addr del 192.0.2.7/24 dev one")
	p.hangUp()
	ip("addr del 192.0.2.7/24 dev one")
	p = comes("addr add 192.0.2.7/32 dev lo; link set two up; link set one up", "addr del 192.0.2.7/32 dev lo; link set one down")
	l.end(t, p)
}
