package netwatch

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"fieldpost/daemon/netwatch/netnstest"
	"fieldpost/daemon/wake"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// watching starts Watch and gives its news.
func watching(t *testing.T) <-chan struct{} {
	t.Helper()
	news := wake.New()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Watch(ctx, news) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return news.C()
}

// settle waits until the watch has a socket, by changing the network until it is told.
func settle(t *testing.T, news <-chan struct{}) {
	t.Helper()
	for range 200 {
		netnstest.IP(t, "route replace 198.51.100.0/24 dev lo")
		netnstest.IP(t, "route del 198.51.100.0/24 dev lo")
		select {
		case <-news:
			quiet(news)
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
	t.Fatal("the watch hears nothing")
}

// quiet waits until nothing has been told for a while.
func quiet(news <-chan struct{}) {
	for {
		select {
		case <-news:
		case <-time.After(3 * rest):
			return
		}
	}
}

func expect(t *testing.T, news <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-news:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: nothing was told", what)
	}
	quiet(news)
}

func TestRealNetwork(t *testing.T) {
	if !netnstest.Run(t) {
		return
	}
	netnstest.IP(t, "link set lo up")
	netnstest.IP(t, "link add one type veth peer name two")
	netnstest.IP(t, "link set two up")
	news := watching(t)
	settle(t, news)
	netnstest.IP(t, "link set one up")
	expect(t, news, "link up")
	netnstest.IP(t, "addr add 192.0.2.7/24 dev one")
	expect(t, news, "address")
	netnstest.IP(t, "route add default via 192.0.2.1")
	expect(t, news, "route")
	netnstest.IP(t, "addr add 2001:db8::7/64 dev one")
	expect(t, news, "address of IPv6")
	netnstest.IP(t, "route add default via 2001:db8::1")
	expect(t, news, "route of IPv6")
	netnstest.IP(t, "route del default via 192.0.2.1")
	netnstest.IP(t, "addr del 192.0.2.7/24 dev one")
	netnstest.IP(t, "link set one alias renamed") // the kernel tells of it, and nothing came
	netnstest.IP(t, "link set one down")
	select {
	case <-news:
		t.Error("told of what went away")
	case <-time.After(4 * rest):
	}
	netnstest.IP(t, "link set one up")
	expect(t, news, "link up again")
}

// More messages than the socket holds are a change, and cost a bounded time.
func TestFloodOfMessages(t *testing.T) {
	if !netnstest.Run(t) {
		return
	}
	netnstest.IP(t, "link set lo up")
	socket, err := open()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	var routes strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&routes, "route add blackhole 10.%d.%d.0/24\n", i/250, i%250)
	}
	c := exec.Command("ip", "-batch", "-")
	c.Stdin = strings.NewReader(routes.String())
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	w := watcher{raw: raw, buffer: make([]byte, datagramBytes)}
	// None of these routes is of use; that messages were dropped is what counts.
	changed, err := w.round()
	if !changed || err != nil {
		t.Errorf("after a flood: changed %v, %v", changed, err)
	}
	if err := socket.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		changed, err = w.round()
		if changed {
			t.Error("the rest of the flood counts as a change")
		}
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}

func TestWatchEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Watch(ctx, wake.New()); err != nil {
		t.Error(err)
	}
}

// A socket that cannot be opened is an error at once: here there is no file descriptor
// left for it.
func TestNoSocket(t *testing.T) {
	var limit, low syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	low = syscall.Rlimit{Cur: 1, Max: limit.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	err := Watch(t.Context(), wake.New())
	if e := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); e != nil {
		t.Fatal(e)
	}
	if !errors.Is(err, syscall.EMFILE) {
		t.Errorf("got %v, want EMFILE", err)
	}
}

// message makes a message of rtnetlink.
func message(kind uint16, body ...byte) []byte {
	m := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+len(body))
	binary.NativeEndian.PutUint32(m, uint32(unix.SizeofNlMsghdr+len(body)))
	binary.NativeEndian.PutUint16(m[4:], kind)
	return append(m, body...)
}

// link makes an announcement of a link.
func link(kind uint16, index, flags uint32) []byte {
	body := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(body[4:], index)
	binary.NativeEndian.PutUint32(body[8:], flags)
	return message(kind, body...)
}

func TestWhatIsAChange(t *testing.T) {
	const up = unix.IFF_UP | unix.IFF_RUNNING
	address := func(flags, scope byte) []byte { return message(unix.RTM_NEWADDR, 2, 24, flags, scope, 2, 0, 0, 0) }
	route := func(table, kind byte, flags uint32) []byte {
		return message(unix.RTM_NEWROUTE, append([]byte{2, 0, 0, 0, table, 3, 0, kind}, binary.NativeEndian.AppendUint32(nil, flags)...)...)
	}
	var l links
	for i, c := range []struct {
		datagram []byte
		want     bool
	}{
		{link(unix.RTM_NEWLINK, 2, unix.IFF_UP), false}, // no carrier
		{link(unix.RTM_NEWLINK, 2, up), true},
		{link(unix.RTM_NEWLINK, 2, up), false}, // a scan, a name
		{link(unix.RTM_NEWLINK, 3, up), true},
		{link(unix.RTM_NEWLINK, 2, unix.IFF_UP), false},
		{link(unix.RTM_NEWLINK, 2, up), true},
		{link(unix.RTM_DELLINK, 2, up), false},
		{link(unix.RTM_NEWLINK, 2, up), true},
		{link(unix.RTM_NEWLINK, 1, up|unix.IFF_LOOPBACK), false},
		{address(0, unix.RT_SCOPE_UNIVERSE), true},
		{address(unix.IFA_F_TENTATIVE, unix.RT_SCOPE_UNIVERSE), false},
		{address(0, unix.RT_SCOPE_HOST), false},
		{route(unix.RT_TABLE_MAIN, unix.RTN_UNICAST, 0), true},
		{route(unix.RT_TABLE_MAIN, unix.RTN_BLACKHOLE, 0), false},
		{route(unix.RT_TABLE_LOCAL, unix.RTN_UNICAST, 0), false},
		{route(unix.RT_TABLE_MAIN, unix.RTN_UNICAST, unix.RTM_F_CLONED), false},
		{append(address(0, unix.RT_SCOPE_HOST), route(unix.RT_TABLE_MAIN, unix.RTN_UNICAST, 0)...), true},
		{message(unix.RTM_DELADDR, 2, 24, 0, 0, 2, 0, 0, 0), false},
		{message(unix.RTM_DELROUTE, make([]byte, unix.SizeofRtMsg)...), false},
	} {
		if got := l.changes(c.datagram); got != c.want {
			t.Errorf("%d: a change %v, want %v", i, got, c.want)
		}
	}
	for i := range uint32(100_000) {
		l.changes(link(unix.RTM_NEWLINK, i, up))
	}
	if len(l.up) > maxLinks {
		t.Errorf("%d links are remembered", len(l.up))
	}
}

// Nothing that comes from the socket can end the program.
func FuzzChanges(f *testing.F) {
	f.Add(link(unix.RTM_NEWLINK, 2, unix.IFF_UP))
	f.Add(message(unix.RTM_NEWROUTE, make([]byte, unix.SizeofRtMsg)...))
	f.Add(message(unix.RTM_NEWADDR, 1)[:17])
	f.Fuzz(func(t *testing.T, datagram []byte) {
		var l links
		l.changes(datagram)
	})
}
