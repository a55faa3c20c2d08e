package local

import (
	"fmt"
	"os/user"
	"strconv"
	"strings"
)

// Peer is who called, by the kernel's word when it connected.
type Peer struct {
	UID, GID uint32
	PID      int32  // 0 where it is in no PID namespace of ours
	User     string // the name of UID; "" where it has none that can be shown
}

// String gives the peer as the cause of an order: uid=1000(pi) pid=4242.
func (p Peer) String() string {
	name := ""
	if p.User != "" {
		name = "(" + p.User + ")"
	}
	return fmt.Sprintf("uid=%d%s pid=%d", p.UID, name, p.PID)
}

// named fills in the user's name.
func (p Peer) named(lookup func(uid string) (*user.User, error)) Peer {
	u, err := lookup(strconv.FormatUint(uint64(p.UID), 10))
	if err == nil && showable(u.Username) {
		p.User = u.Username
	}
	return p
}

// showable reports whether a user's name can stand in a line for people and
// machines, as those that useradd(8) makes can.
func showable(name string) bool {
	return name != "" && len(name) <= 32 && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_-.$", r)
	})
}
