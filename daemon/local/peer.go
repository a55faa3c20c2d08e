package local

import (
	"fmt"
	"os/user"
	"strconv"
	"strings"
)

// Peer is the process that connected, according to the kernel at that time.
type Peer struct {
	UID, GID uint32
	PID      int32  // 0 if the process is not visible in our PID namespace
	User     string // the name of UID; "" if it has none that is safe to show
}

// String formats the peer as the cause of an order: uid=1000(pi) pid=4242.
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

// showable reports whether a user's name can be put into a line for people and machines.
// Names that useradd(8) accepts can.
func showable(name string) bool {
	return name != "" && len(name) <= 32 && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_-.$", r)
	})
}
