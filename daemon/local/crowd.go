package local

import (
	"context"
	"net"
	"time"
)

// How many connections and calls there may be. Each user has a share, so that
// nobody keeps the others out; who comes beside one's own share takes the place of
// one's own oldest.
const (
	most  = 128 // connections whose request has not come
	share = 8   // of one user

	callsMost  = 16 // calls under way
	callsShare = 8  // of one user

	urgentMost  = 64 // urgent calls under way
	urgentShare = 16 // of one user
	urgentEnds  = 32 // of one user, with those that are asked to end
)

// crowd is the connections there are. With the server's mu held.
type crowd struct{ guests []*guest }

// guest is a connection.
type guest struct {
	conn   net.Conn
	from   Peer
	stage  stage
	cancel context.CancelFunc // of its call
	gone   bool               // it was asked to give up its place
}

// stage is what a connection waits for.
type stage int

const (
	asking  stage = iota // its request to come
	calling              // the answer to a call
	urgent               // the answer to an urgent call
)

// count gives how many there are at a stage, and the oldest; of a user's own only
// where uid is given. Those that were asked to go do not count.
func (c *crowd) count(at stage, uid *uint32) (n int, oldest *guest) {
	for _, g := range c.guests {
		if g.stage != at || g.gone || uid != nil && g.from.UID != *uid {
			continue
		}
		if n++; oldest == nil {
			oldest = g
		}
	}
	return n, oldest
}

// greediest gives the oldest at a stage of the user who has most there.
func (c *crowd) greediest(at stage) *guest {
	var found *guest
	many := 0
	for _, g := range c.guests {
		if n, oldest := c.count(at, &g.from.UID); n > many {
			many, found = n, oldest
		}
	}
	return found
}

// enter takes a connection in. Who is silent gives way: first the user's own oldest.
func (c *crowd) enter(g *guest) {
	uid := &g.from.UID
	if n, oldest := c.count(asking, uid); n >= share {
		oldest.hush()
	} else if n, _ := c.count(asking, nil); n >= most {
		c.greediest(asking).hush()
	}
	c.guests = append(c.guests, g)
}

// hush ends the wait for a request; who reads it tells the client.
func (g *guest) hush() {
	g.gone = true
	_ = g.conn.SetReadDeadline(time.Now()) // where it fails, so does the reading
}

// call moves on a connection whose request has come, and reports whether there is
// room for its call. For an urgent one the user's own oldest is asked to end.
func (c *crowd) call(g *guest, at stage, cancel context.CancelFunc) (ok bool) {
	uid := &g.from.UID
	g.gone = false
	mine, oldest := c.count(at, uid)
	all, _ := c.count(at, nil)
	switch {
	case at == calling && (mine >= callsShare || all >= callsMost):
		return false
	case at == urgent && c.ending(*uid) >= urgentEnds:
		return false
	case at == urgent && mine >= urgentShare:
		oldest.end()
	case at == urgent && all >= urgentMost:
		c.greediest(urgent).end()
	}
	g.stage, g.cancel = at, cancel
	return true
}

// ending counts a user's urgent calls, with those that were asked to end.
func (c *crowd) ending(uid uint32) (n int) {
	for _, g := range c.guests {
		if g.stage == urgent && g.from.UID == uid {
			n++
		}
	}
	return n
}

// end asks a call to end.
func (g *guest) end() {
	g.gone = true
	g.cancel()
}

// leave takes a connection out.
func (c *crowd) leave(g *guest) {
	for i, x := range c.guests {
		if x == g {
			c.guests = append(c.guests[:i:i], c.guests[i+1:]...)
			return
		}
	}
}
