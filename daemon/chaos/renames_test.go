//go:build chaos && linux

package chaos

import (
	"fmt"
	"syscall"
	"time"

	"fieldpost/daemon/daemontest"
)

// rename ends the daemon and starts it with another topic of orders, or another thing,
// and the same client id, so that its session still has the old subscription. Orders on
// the old topic, and orders for the old thing, must not act.
func (c *testbed) rename() func() {
	how := syscall.SIGKILL // with a disk fault a clean stop is not possible
	if c.diskGood() && c.random.IntN(2) == 0 {
		how = syscall.SIGTERM
	}
	c.end(how, daemontest.Patience)
	old := c.settings
	c.renames++
	if c.random.IntN(2) == 0 {
		c.ordersTopic = fmt.Sprintf("test/topic/commands-%d", c.renames)
	} else {
		c.thing = fmt.Sprintf("thing-chaos-%d", c.renames)
	}
	c.configure()
	if c.ongoing["broker"] == nil { // otherwise there is no broker
		c.stray(old)
	}
	c.start()
	if c.ongoing["broker"] == nil {
		c.stray(old)
	}
	return nil
}

// stray sends orders for others.
func (c *testbed) stray(old settings) {
	for _, to := range []struct{ thing, topic string }{
		{old.thing, old.ordersTopic},
		{"", old.ordersTopic},
		{old.thing, c.ordersTopic},
		{c.thing, "test/topic"}, // its own readings are there
		{c.thing, "test/topic/elsewhere"},
	} {
		if to.topic == c.ordersTopic && (to.thing == c.thing || to.thing == "") {
			continue
		}
		e := &sentOrder{output: "pump", action: "on 1s", expires: time.Now().Add(time.Minute), thing: to.thing, topic: to.topic, stray: true, over: true}
		c.checker.begin(e)
		c.publish(e.topic, nil, "-m", string(e.payload))
	}
}
