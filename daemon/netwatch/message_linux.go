package netwatch

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// maxLinks bounds how many links are remembered; a machine full of containers has more,
// and then a link that was up all along may count as news.
const maxLinks = 256

// links remembers which links are known to be up. The kernel tells of a link for many
// reasons, such as a scan for Wi-Fi networks; only that it came up is worth an attempt.
type links struct {
	up map[int32]bool
}

// changes reports whether one of the messages in a datagram of rtnetlink makes an
// attempt to connect worthwhile. It ignores whatever is cut short.
func (l *links) changes(datagram []byte) (changed bool) {
	for len(datagram) >= unix.SizeofNlMsghdr {
		size := int(binary.NativeEndian.Uint32(datagram))
		if size < unix.SizeofNlMsghdr || size > len(datagram) {
			return changed
		}
		if l.change(binary.NativeEndian.Uint16(datagram[4:]), datagram[unix.SizeofNlMsghdr:size]) {
			changed = true
		}
		datagram = datagram[min((size+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1), len(datagram)):]
	}
	return changed
}

// change is changes for one message without its header.
func (l *links) change(kind uint16, body []byte) bool {
	switch {
	case kind == unix.RTM_NEWLINK && len(body) >= unix.SizeofIfInfomsg:
		return l.announced(body)
	case kind == unix.RTM_DELLINK && len(body) >= unix.SizeofIfInfomsg:
		delete(l.up, int32(binary.NativeEndian.Uint32(body[4:])))
	case kind == unix.RTM_NEWADDR && len(body) >= unix.SizeofIfAddrmsg:
		flags, scope := body[2], body[3]
		// The kernel tells again of a tentative address when it can be used.
		return flags&unix.IFA_F_TENTATIVE == 0 && scope != unix.RT_SCOPE_HOST
	case kind == unix.RTM_NEWROUTE && len(body) >= unix.SizeofRtMsg:
		table, routeType, flags := body[4], body[7], binary.NativeEndian.Uint32(body[8:])
		return routeType == unix.RTN_UNICAST && table != unix.RT_TABLE_LOCAL && flags&unix.RTM_F_CLONED == 0
	}
	return false
}

// announced notes whether a link is up (struct ifinfomsg), and reports whether it was
// not known to be.
func (l *links) announced(body []byte) (cameUp bool) {
	index, flags := int32(binary.NativeEndian.Uint32(body[4:])), binary.NativeEndian.Uint32(body[8:])
	const working = unix.IFF_UP | unix.IFF_RUNNING
	if flags&working != working {
		delete(l.up, index)
		return false
	}
	if l.up[index] || flags&unix.IFF_LOOPBACK != 0 {
		return false
	}
	if l.up == nil || len(l.up) >= maxLinks {
		l.up = map[int32]bool{}
	}
	l.up[index] = true
	return true
}
