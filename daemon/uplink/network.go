package uplink

import (
	"context"

	"fieldpost/daemon/task"
	"fieldpost/daemon/wake"
)

// network watches the machine's network while there is no connection. A connection that is up
// needs no watch. Only Run's goroutine uses it.
type network struct {
	news   wake.Signal // set by the watch: an attempt may now succeed
	cancel context.CancelFunc
	done   chan struct{} // closed when the watch has ended; nil if there is none
}

// start starts the watch unless it is running. It is called once for each failed attempt, so
// a watch that has ended is started again.
func (n *network) start(c Config, others *task.Group) {
	if n.done != nil {
		select {
		case <-n.done:
			n.stop()
		default:
			return
		}
	}
	if c.watchNetwork == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	n.cancel, n.done = cancel, done
	others.Go("network watch", func() {
		defer close(done)
		if err := c.watchNetwork(ctx, n.news); err != nil {
			c.Log.Debug("changes of the network are not noticed; the next attempt is made when its time has come", "error", err)
		}
	})
}

// stop ends the watch and waits for it.
func (n *network) stop() {
	if n.done == nil {
		return
	}
	n.cancel()
	<-n.done
	n.cancel, n.done = nil, nil
}
