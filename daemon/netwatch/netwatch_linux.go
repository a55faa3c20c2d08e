package netwatch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"fieldpost/daemon/wake"
)

const (
	// groups are the multicast groups of rtnetlink(7) that are read.
	groups = unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_IFADDR | unix.RTMGRP_IPV6_ROUTE
	// readsPerRound bounds what is read before the next rest.
	readsPerRound = 64
	// datagramBytes is the largest datagram that the kernel sends to these groups
	// (NLMSG_GOODSIZE is a page; one that announces a link may be larger).
	datagramBytes = 32 << 10
)

// Watch sets news whenever a link has come up or an address or a route was added, at
// most four times a second, and does nothing while nothing changes. News that the
// kernel had to drop count as a change. It returns nil when ctx ends, and otherwise what
// kept it from watching: a sandbox without AF_NETLINK, no file descriptors left. Call it
// on a goroutine of its own.
func Watch(ctx context.Context, news wake.Signal) error {
	socket, err := open()
	if err != nil {
		return fmt.Errorf("watch the network: %w", err)
	}
	defer socket.Close()
	// A deadline in the past ends the read that waits.
	defer context.AfterFunc(ctx, func() { _ = socket.SetReadDeadline(time.Unix(1, 0)) })()
	raw, err := socket.SyscallConn()
	if err != nil {
		return fmt.Errorf("watch the network: %w", err)
	}
	w := watcher{raw: raw, buffer: make([]byte, datagramBytes)}
	pause := time.NewTimer(rest)
	defer pause.Stop()
	for {
		changed, err := w.round()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("watch the network: %w", err)
		case changed:
			news.Set()
		}
		pause.Reset(rest)
		select {
		case <-pause.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// open gives a socket that hears of links, addresses and routes. It belongs to the
// runtime's poller, so that no thread waits for it.
func open() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	return os.NewFile(uintptr(fd), "netlink"), nil
}

// watcher reads one socket.
type watcher struct {
	raw    syscall.RawConn
	buffer []byte
	links  links
}

// round waits until there is something to read, reads what there is, up to a bound, and
// reports whether any of it makes an attempt to connect worthwhile.
func (w *watcher) round() (changed bool, err error) {
	reads := 0
	waited := w.raw.Read(func(fd uintptr) (done bool) {
		for ; reads < readsPerRound; reads++ {
			n, from, e := unix.Recvfrom(int(fd), w.buffer, 0)
			sender, _ := from.(*unix.SockaddrNetlink)
			switch {
			case e == unix.EINTR:
			case e == unix.EAGAIN:
				return reads > 0
			case e == unix.ENOBUFS: // messages were dropped, among them perhaps ours
				w.links = links{}
				changed = true
			case e != nil:
				err = os.NewSyscallError("recvfrom", e)
				return true
			case n == 0 || sender == nil || sender.Pid != 0: // not from the kernel
			case w.links.changes(w.buffer[:n]):
				changed = true
			}
		}
		return true
	})
	return changed, errors.Join(err, waited)
}
