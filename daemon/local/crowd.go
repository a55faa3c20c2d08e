package local

import "context"

// How many connections and calls there may be. Each user has a share, so that
// nobody keeps the others out. What exceeds a user's share takes the place of
// that user's own oldest.
const (
	waitingMax     = 128 // connections whose request has not come
	userWaitingMax = 8   // of one user

	callsMax     = 16 // calls under way
	userCallsMax = 8  // of one user

	urgentMax      = 64 // urgent calls under way
	userUrgentMax  = 16 // of one user
	userEndingsMax = 32 // of one user, with those that are asked to end
)

// crowd is the connections there are, the one that has waited longest first.
// Its methods need the server's mu.
type crowd struct{ conns []*conn }

// stage is what a connection waits for.
type stage int

const (
	asking  stage = iota // its request, or its next
	calling              // the answer to a call
	urgent               // the answer to an urgent call
)

// countLocked counts the connections at a stage and gives the oldest; of one
// user only where uid is given. Those that were asked to go do not count.
func (c *crowd) countLocked(at stage, uid *uint32) (n int, oldest *conn) {
	for _, g := range c.conns {
		if g.stage != at || g.gone || uid != nil && g.from.UID != *uid {
			continue
		}
		if n++; oldest == nil {
			oldest = g
		}
	}
	return n, oldest
}

// greediestLocked gives the oldest at a stage of the user who has most there.
func (c *crowd) greediestLocked(at stage) *conn {
	var found *conn
	many := 0
	for _, g := range c.conns {
		if n, oldest := c.countLocked(at, &g.from.UID); n > many {
			many, found = n, oldest
		}
	}
	return found
}

// enterLocked takes in a connection that waits for a request. Another that
// waits gives way for it: first the user's own oldest.
func (c *crowd) enterLocked(g *conn) {
	uid := &g.from.UID
	if n, oldest := c.countLocked(asking, uid); n >= userWaitingMax {
		oldest.hushLocked()
	} else if n, _ := c.countLocked(asking, nil); n >= waitingMax {
		c.greediestLocked(asking).hushLocked()
	}
	g.stage, g.handled, g.cancel, g.gone = asking, false, nil, g.gone && g.mute
	c.conns = append(c.conns, g)
}

// hushLocked ends the wait for a request; who reads it tells the client.
func (g *conn) hushLocked() {
	g.gone = true
	g.muteLocked()
}

// callLocked moves on a connection whose request has come, and reports whether
// there is room for its call. For an urgent one the user's own oldest is asked
// to end.
func (c *crowd) callLocked(g *conn, at stage, cancel context.CancelFunc) (ok bool) {
	uid := &g.from.UID
	mine, oldest := c.countLocked(at, uid)
	all, _ := c.countLocked(at, nil)
	switch {
	case at == calling && (mine >= userCallsMax || all >= callsMax):
		return false
	case at == urgent && c.endingLocked(*uid) >= userEndingsMax:
		return false
	case at == urgent && mine >= userUrgentMax:
		oldest.endLocked()
	case at == urgent && all >= urgentMax:
		c.greediestLocked(urgent).endLocked()
	}
	g.gone = false
	g.stage, g.cancel = at, cancel
	return true
}

// endingLocked counts a user's urgent calls, with those that were asked to end.
func (c *crowd) endingLocked(uid uint32) (n int) {
	for _, g := range c.conns {
		if g.stage == urgent && g.from.UID == uid {
			n++
		}
	}
	return n
}

// endLocked asks a call to end.
func (g *conn) endLocked() {
	g.gone = true
	g.cancel()
}

// leaveLocked takes a connection out.
func (c *crowd) leaveLocked(g *conn) {
	for i, x := range c.conns {
		if x == g {
			c.conns = append(c.conns[:i:i], c.conns[i+1:]...)
			return
		}
	}
}
