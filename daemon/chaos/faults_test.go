//go:build chaos && linux

package chaos

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"fieldpost/daemon/broker"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/uplink"
)

// fault is a kind of fault to inject. Two of the same part are never injected at once.
// Some are over at once, others last until they are ended.
type fault struct {
	name   string
	weight int
	part   string
	can    func(*testbed) bool // nil: always
	do     func(*testbed) (heal func())
}

// faults are all kinds of faults.
var faults = []fault{
	{name: "daemon killed", weight: 9, part: "daemon", do: (*testbed).killAndRestart},
	{name: "daemon killed between intent and act", weight: 3, part: "daemon", can: (*testbed).ordersFlow, do: halting("act")},
	{name: "daemon killed between act and result", weight: 3, part: "daemon", can: (*testbed).ordersFlow, do: halting("acted")},
	{name: "daemon killed between result and answer", weight: 3, part: "daemon", can: (*testbed).ordersFlow, do: halting("answer")},
	{name: "daemon killed and bits flipped", weight: 5, part: "daemon", can: (*testbed).diskGood, do: (*testbed).killAndFlipBits},
	{name: "daemon stopped in order", weight: 4, part: "daemon", can: (*testbed).diskGood, do: func(c *testbed) func() { c.restart(); return nil }},
	{name: "daemon suspended", weight: 4, part: "daemon", do: (*testbed).suspend},
	{name: "daemon suspended, then killed", weight: 2, part: "daemon", do: (*testbed).suspendAndKill},
	{name: "broker killed", weight: 2, part: "broker", do: func(c *testbed) func() { return c.losesBroker((*daemontest.Mosquitto).Kill, true) }},
	{name: "broker stopped in order", weight: 3, part: "broker", do: func(c *testbed) func() { return c.losesBroker((*daemontest.Mosquitto).Stop, true) }},
	{name: "broker restarted without its sessions", weight: 2, part: "broker", do: func(c *testbed) func() { return c.losesBroker((*daemontest.Mosquitto).Forget, false) }},
	{name: "duplicate client", weight: 4, part: "broker", do: (*testbed).rival},
	{name: "connection reset", weight: 8, part: "link", can: (*testbed).wantLink, do: func(c *testbed) func() { c.net.reset(); return nil }},
	{name: "black hole to the broker", weight: 6, part: "up", can: (*testbed).wantLink, do: flowing(up, swallow)},
	{name: "black hole from the broker", weight: 6, part: "down", can: (*testbed).wantLink, do: flowing(down, swallow)},
	{name: "broker stalls", weight: 6, part: "up", can: (*testbed).wantLink, do: flowing(up, hold)},
	{name: "acknowledgements withheld", weight: 8, part: "down", can: (*testbed).wantLink, do: flowing(down, hold)},
	{name: "nothing gets through for longer than the daemon waits", weight: 1, part: "up", can: (*testbed).wayFree, do: (*testbed).outlast},
	{name: "spool flooded in an outage", weight: 2, part: "up", can: func(c *testbed) bool { return c.bounded }, do: (*testbed).flood},
	{name: "input chatters", weight: 4, part: "input", do: (*testbed).chatter},
	{name: "bad certificate", weight: 5, part: "certificate", do: (*testbed).badCertificate},
	{name: "clock stepped", weight: 4, part: "clock", do: (*testbed).stepClock},
	{name: "clock not synchronised", weight: 3, part: "clock", do: (*testbed).unsyncClock},
	{name: "board off for longer than max_age", weight: 3, part: "clock", can: (*testbed).boundedAndGood, do: (*testbed).switchOff},
	{name: "flood of large messages", weight: 2, part: "flood", can: (*testbed).brokerThere, do: (*testbed).largeMessages},
	{name: "flood of malformed orders", weight: 3, part: "flood", can: (*testbed).brokerThere, do: (*testbed).malformedOrders},
	{name: "other topic of orders or other name", weight: 4, part: "daemon", can: (*testbed).nothingRetained, do: (*testbed).rename},
	{name: "configuration reloaded", weight: 6, part: "daemon", do: (*testbed).reload},
	{name: "wrong configuration reloaded", weight: 3, part: "daemon", do: (*testbed).reloadWrong},
	{name: "disk full", weight: 6, part: "disk", can: (*testbed).ownDisk, do: (*testbed).fullDisk},
	{name: "spool taken away", weight: 4, part: "disk", can: (*testbed).diskGood, do: (*testbed).takeAway},
	{name: "disk read-only from the start", weight: 3, part: "disk", can: (*testbed).ownDisk, do: (*testbed).readOnlyDisk},
}

// killAndRestart kills the daemon, also during other faults.
func (c *testbed) killAndRestart() func() {
	if x := c.ongoing["disk"]; x != nil {
		c.checker.mu.Lock()
		c.checker.count["KILLS with the "+x.name]++
		c.checker.mu.Unlock()
	}
	c.kill()
	c.start()
	return nil
}

// halting makes the daemon halt at a place of an order and kills it there.
func halting(place string) func(*testbed) func() {
	return func(c *testbed) func() {
		b := c.checker
		b.mu.Lock()
		b.eager = true
		b.wakeLocked()
		b.mu.Unlock()
		c.say("halt " + place)
		if !b.wait(3*time.Second, func() bool { return b.halted != "" }) {
			c.done["  of which no order came, "+windows[place]]++
		}
		b.mu.Lock()
		b.eager = false
		b.mu.Unlock()
		c.kill()
		c.start()
		return nil
	}
}

// ordersFlow reports whether an order can be expected to be carried out.
func (c *testbed) ordersFlow() bool {
	return c.diskGood() && c.wantLink() && c.dial == clockDial{synced: true, boots: c.dial.boots} &&
		c.ongoing["up"] == nil && c.ongoing["down"] == nil && c.ongoing["broker"] == nil && c.ongoing["certificate"] == nil
}

// backlogged reports whether messages wait to be sent.
func (c *testbed) backlogged() bool {
	return c.ongoing["up"] != nil || c.ongoing["down"] != nil || c.ongoing["broker"] != nil || c.ongoing["certificate"] != nil
}

// boundedAndGood reports whether messages can get too old on the disk.
func (c *testbed) boundedAndGood() bool { return c.bounded && c.diskGood() }

// wantLink waits a little for the connection, so that there is one to break.
func (c *testbed) wantLink() bool {
	c.checker.wait(time.Second, func() bool { return c.checker.linked })
	return true
}

// diskGood reports whether readings from a second or two ago are on disk.
func (c *testbed) diskGood() bool {
	c.checker.mu.Lock()
	defer c.checker.mu.Unlock()
	return c.ongoing["disk"] == nil && !c.checker.diskDown
}

// brokerThere reports whether the broker runs.
func (c *testbed) brokerThere() bool { return c.ongoing["broker"] == nil }

// nothingRetained reports whether the broker has no retained order on the present topic.
func (c *testbed) nothingRetained() bool { return c.retained == nil }

func (c *testbed) ownDisk() bool { return c.disk.mine }

func flowing(way int, what flow) func(*testbed) func() {
	return func(c *testbed) func() {
		c.net.set(way, what)
		return func() { c.net.set(way, pass) }
	}
}

// wayFree reports whether the connection is up and has no fault.
func (c *testbed) wayFree() bool {
	c.wantLink()
	c.checker.mu.Lock()
	defer c.checker.mu.Unlock()
	return c.checker.linked && c.ongoing["down"] == nil && c.ongoing["broker"] == nil
}

// outlast blocks one direction until the daemon notices.
func (c *testbed) outlast() func() {
	way := c.random.IntN(2)
	c.net.set(way, []flow{hold, swallow}[c.random.IntN(2)])
	if !c.checker.wait(daemontest.Patience, func() bool { return !c.checker.linked }) {
		c.t.Errorf("nothing gets through, and the daemon has not found that out in %v", daemontest.Patience)
	}
	return func() { c.net.set(way, pass) }
}

// restart stops the daemon cleanly and starts it again.
func (c *testbed) restart() {
	c.end(syscall.SIGTERM, daemontest.Patience)
	c.start()
}

// killAndFlipBits flips bits in a file of the spool while no daemon runs.
func (c *testbed) killAndFlipBits() func() {
	c.kill()
	name, held := c.flip()
	c.note("flipped bits of %q, which held %d", name, len(held))
	c.checker.mu.Lock()
	for _, n := range held {
		c.checker.flipped[n] = true
	}
	if name != "" {
		c.checker.count["files flipped"]++
		if r := c.checker.runs[c.checker.run]; r != nil {
			r.unreliable = true
		}
	}
	c.checker.mu.Unlock()
	c.start()
	return nil
}

// pause suspends the daemon for a while. The caller continues it.
func (c *testbed) pause(d time.Duration) (from time.Duration) {
	from = c.now()
	_ = c.child.cmd.Process.Signal(syscall.SIGSTOP) // if it has ended by itself, that is found later
	c.checker.wait(d, func() bool { return false })
	return from
}

func (c *testbed) suspend() func() {
	from := c.pause(time.Duration(50+c.random.IntN(1200)) * time.Millisecond)
	c.checker.mu.Lock()
	c.checker.stops = append(c.checker.stops, pause{from, c.now()})
	c.checker.mu.Unlock()
	_ = c.child.cmd.Process.Signal(syscall.SIGCONT)
	return nil
}

func (c *testbed) suspendAndKill() func() {
	c.pause(time.Duration(50+c.random.IntN(500)) * time.Millisecond)
	return c.killAndRestart()
}

// losesBroker ends the broker and restarts it. It lets the daemon connect only after the
// checker's client has subscribed, because the broker delivers nothing without a
// subscription.
func (c *testbed) losesBroker(how func(*daemontest.Mosquitto), remembers bool) func() {
	c.net.gate(false)
	how(c.broker)
	c.checker.brokerForgets()
	c.stopListening()
	return func() {
		c.broker.Start()
		c.listen()
		if c.retained == nil && c.random.IntN(2) == 0 {
			c.retain(remembers)
		}
		c.net.gate(true)
	}
}

// rival connects with the daemon's client id, so that the broker drops it.
func (c *testbed) rival() func() {
	heard := make(chan uplink.Status, 256)
	l, err := uplink.New(uplink.Config{
		Endpoint: c.broker.Addr, ClientID: clientID, CA: c.broker.CA, Certificate: c.broker.Cert, Key: c.broker.Key,
		Outbox: uplink.NewQueue(), Observe: daemontest.ConnectionChanges(heard),
	})
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	daemontest.Await(c.t, "connection of the rival", heard, func(s uplink.Status) bool { return s.Connected })
	cancel()
	<-ended
	return nil
}

// badCertificate replaces the daemon's certificate files by those of another authority,
// or by files that are no certificate.
func (c *testbed) badCertificate() func() {
	cert := filepath.Join(c.dir, "certs", filepath.Base(c.broker.Cert))
	key := filepath.Join(c.dir, "certs", filepath.Base(c.broker.Key))
	if c.random.IntN(2) == 0 {
		c.put(cert, []byte("not a certificate\n"))
	} else {
		other, err := broker.Certificates(filepath.Join(c.dir, "other"))
		if err != nil {
			c.t.Fatal(err)
		}
		c.put(cert, c.get(other.Certificate))
		c.put(key, c.get(other.Key))
	}
	c.net.reset()
	return func() {
		c.put(cert, c.get(c.broker.Cert))
		c.put(key, c.get(c.broker.Key))
	}
}

func (c *testbed) get(name string) []byte {
	data, err := os.ReadFile(name)
	if err != nil {
		c.t.Fatal(err)
	}
	return data
}

func (c *testbed) put(name string, data []byte) {
	if err := os.WriteFile(name, data, 0o600); err != nil {
		c.t.Fatal(err)
	}
}

func (c *testbed) fullDisk() func() {
	c.checker.setDiskFault(true)
	c.disk.fill()
	return func() {
		c.disk.clear()
		c.checker.setDiskFault(false)
	}
}

func (c *testbed) readOnlyDisk() func() {
	c.kill()
	c.checker.setDiskFault(true)
	c.disk.protect(true)
	c.start()
	return func() {
		c.disk.protect(false)
		c.checker.setDiskFault(false)
	}
}

// chatter makes the door change far more often than max_edges.
func (c *testbed) chatter() func() {
	c.say(fmt.Sprintf("chatter %d %v", 100+c.random.IntN(2000), time.Duration(500+c.random.IntN(3000))*time.Millisecond))
	return nil
}

// flood makes so many edges during an outage that the spool is full.
func (c *testbed) flood() func() {
	c.net.set(up, hold)
	b := c.checker
	b.mu.Lock()
	before, taken := b.count["fault spool_full raised"], b.nTaken
	b.mu.Unlock()
	c.say(fmt.Sprintf("burst %d", edgesToFill))
	b.wait(10*time.Second, func() bool { return b.nTaken > taken+edgesToFill*9/10 })
	b.wait(3*time.Second, func() bool { return b.count["fault spool_full raised"] > before })
	return func() { c.net.set(up, pass) }
}

// edgesToFill need more than 1 MiB in the spool. They come from six inputs, so that each
// is a message of its own.
const edgesToFill = 12000
