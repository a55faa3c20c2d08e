package uplink

import (
	"net"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon/netwatch"
	"fieldpost/daemon/netwatch/netnstest"
)

// With waits of hours, a link over the kernel's network connects as soon as an address, a
// route or a cable makes that possible.
func TestRealNetworkComes(t *testing.T) {
	if !netnstest.Run(t) {
		return
	}
	ip := func(arguments string) { t.Helper(); netnstest.IP(t, arguments) }
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
