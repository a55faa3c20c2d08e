//go:build unix

package regular

import "golang.org/x/sys/unix"

// noBlock: a FIFO that was put there after the first look is not waited for.
// noFollow: a link is not followed.
const (
	noBlock  = unix.O_NONBLOCK
	noFollow = unix.O_NOFOLLOW
)
