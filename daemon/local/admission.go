package local

import "context"

// Limits of connections and calls. Each user has a share, so that nobody can lock the others
// out. If a user exceeds the share, the user's own oldest has to make room.
const (
	waitingMax     = 128 // connections that wait for a request
	userWaitingMax = 8   // of one user

	callsMax     = 16 // running calls
	userCallsMax = 8  // of one user

	urgentMax      = 64 // running urgent calls
	userUrgentMax  = 16 // of one user
	userEndingsMax = 32 // of one user, including those that were asked to end
)

// admission holds all connections, the one that has waited longest first. Its methods need the
// server's mu.
type admission struct{ conns []*conn }

// stage is what a connection waits for.
type stage int

const (
	asking  stage = iota // a request
	calling              // the answer to a call
	urgent               // the answer to an urgent call
)

// countLocked counts the connections at a stage and returns the oldest. With uid it counts
// only that user's. It does not count connections that were asked to go.
func (c *admission) countLocked(at stage, uid *uint32) (n int, oldest *conn) {
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

// greediestLocked returns, of the user with the most connections at a stage, the oldest one.
func (c *admission) greediestLocked(at stage) *conn {
	var found *conn
	many := 0
	for _, g := range c.conns {
		if n, oldest := c.countLocked(at, &g.from.UID); n > many {
			many, found = n, oldest
		}
	}
	return found
}

// enterLocked adds a connection that waits for a request. If there are too many, another
// waiting one makes room: the user's own oldest first.
func (c *admission) enterLocked(g *conn) {
	uid := &g.from.UID
	if n, oldest := c.countLocked(asking, uid); n >= userWaitingMax {
		oldest.evictLocked()
	} else if n, _ := c.countLocked(asking, nil); n >= waitingMax {
		c.greediestLocked(asking).evictLocked()
	}
	g.stage, g.handled, g.cancel, g.gone = asking, false, nil, g.gone && g.mute
	c.conns = append(c.conns, g)
}

// evictLocked ends the wait for a request. The goroutine that reads from the connection answers
// the client.
func (g *conn) evictLocked() {
	g.gone = true
	g.muteLocked()
}

// callLocked moves a connection whose request has arrived on to its call. It reports whether
// there is room for the call. For an urgent call it asks the user's own oldest to end.
func (c *admission) callLocked(g *conn, at stage, cancel context.CancelFunc) (ok bool) {
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

// endingLocked counts a user's urgent calls, including those that were asked to end.
func (c *admission) endingLocked(uid uint32) (n int) {
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

// leaveLocked removes a connection.
func (c *admission) leaveLocked(g *conn) {
	for i, x := range c.conns {
		if x == g {
			c.conns = append(c.conns[:i:i], c.conns[i+1:]...)
			return
		}
	}
}
