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

// A fault is one way to do harm. Two of the same part are never done at
// once. Some are over at once, others last until they are healed.
type fault struct {
	name   string
	weight int
	part   string
	can    func(*testbed) bool // nil is always
	do     func(*testbed) (heal func())
}

// faults are all that is done.
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

// killAndRestart kills the daemon, whatever else is the matter.
func (c *testbed) killAndRestart() func() {
	if x := c.ongoing["disk"]; x != nil {
		c.books.mu.Lock()
		c.books.count["KILLS WHERE THEY HURT with the "+x.name]++
		c.books.mu.Unlock()
	}
	c.kill()
	c.start()
	return nil
}

// halting has the daemon halt over an order and kills it there.
func halting(place string) func(*testbed) func() {
	return func(c *testbed) func() {
		b := c.books
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

// backlogged reports whether there is something that waits to be sent.
func (c *testbed) backlogged() bool {
	return c.ongoing["up"] != nil || c.ongoing["down"] != nil || c.ongoing["broker"] != nil || c.ongoing["certificate"] != nil
}

// boundedAndGood reports whether mail can grow too old on the disk.
func (c *testbed) boundedAndGood() bool { return c.bounded && c.diskGood() }

// wantLink waits a little for the link, so that there is something to break.
func (c *testbed) wantLink() bool {
	c.books.wait(time.Second, func() bool { return c.books.linked })
	return true
}

// diskGood reports whether what was taken a second or two ago is on disk.
func (c *testbed) diskGood() bool {
	c.books.mu.Lock()
	defer c.books.mu.Unlock()
	return c.ongoing["disk"] == nil && !c.books.diskDown
}

// brokerThere reports whether there is a broker to send something to.
func (c *testbed) brokerThere() bool { return c.ongoing["broker"] == nil }

// nothingRetained reports whether the broker keeps no order for the topic of now.
func (c *testbed) nothingRetained() bool { return c.retained == nil }

func (c *testbed) ownDisk() bool { return c.disk.mine }

func flowing(way int, what flow) func(*testbed) func() {
	return func(c *testbed) func() {
		c.net.set(way, what)
		return func() { c.net.set(way, pass) }
	}
}

// wayFree reports whether the link stands and nothing is the matter with it.
func (c *testbed) wayFree() bool {
	c.wantLink()
	c.books.mu.Lock()
	defer c.books.mu.Unlock()
	return c.books.linked && c.ongoing["down"] == nil && c.ongoing["broker"] == nil
}

// outlast keeps one direction shut until the daemon itself finds that out.
func (c *testbed) outlast() func() {
	way := c.random.IntN(2)
	c.net.set(way, []flow{hold, swallow}[c.random.IntN(2)])
	if !c.books.wait(daemontest.Patience, func() bool { return !c.books.linked }) {
		c.t.Errorf("nothing gets through, and the daemon has not found that out in %v", daemontest.Patience)
	}
	return func() { c.net.set(way, pass) }
}

// restart ends the daemon in order and starts it again.
func (c *testbed) restart() {
	c.end(syscall.SIGTERM, daemontest.Patience)
	c.start()
}

// killAndFlipBits flips bits in a file of the spool while nobody uses it.
func (c *testbed) killAndFlipBits() func() {
	c.kill()
	name, held := c.flip()
	c.note("flipped bits of %q, which held %d", name, len(held))
	c.books.mu.Lock()
	for _, n := range held {
		c.books.flipped[n] = true
	}
	if name != "" {
		c.books.count["files flipped"]++
		if r := c.books.runs[c.books.run]; r != nil {
			r.harmed = true
		}
	}
	c.books.mu.Unlock()
	c.start()
	return nil
}

// pause stops the daemon for a while; it is to go on only when told to.
func (c *testbed) pause(d time.Duration) (from time.Duration) {
	from = c.now()
	_ = c.child.cmd.Process.Signal(syscall.SIGSTOP) // that it has ended by itself is found later
	c.books.wait(d, func() bool { return false })
	return from
}

func (c *testbed) suspend() func() {
	from := c.pause(time.Duration(50+c.random.IntN(1200)) * time.Millisecond)
	c.books.mu.Lock()
	c.books.stops = append(c.books.stops, pause{from, c.now()})
	c.books.mu.Unlock()
	_ = c.child.cmd.Process.Signal(syscall.SIGCONT)
	return nil
}

func (c *testbed) suspendAndKill() func() {
	c.pause(time.Duration(50+c.random.IntN(500)) * time.Millisecond)
	return c.killAndRestart()
}

// losesBroker ends the broker. It lets the daemon in again only when the
// books' subscriber is there: who is not subscribed is owed nothing.
func (c *testbed) losesBroker(how func(*daemontest.Mosquitto), remembers bool) func() {
	c.net.gate(false)
	how(c.broker)
	c.books.brokerForgets()
	c.listens()
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

// badCertificate puts files of another authority in the place of the daemon's,
// or what is no certificate at all.
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
	c.books.sickens(true)
	c.disk.fill()
	return func() {
		c.disk.clear()
		c.books.sickens(false)
	}
}

func (c *testbed) readOnlyDisk() func() {
	c.kill()
	c.books.sickens(true)
	c.disk.protect(true)
	c.start()
	return func() {
		c.disk.protect(false)
		c.books.sickens(false)
	}
}

// chatter has the door change far more often than is told one by one.
func (c *testbed) chatter() func() {
	c.say(fmt.Sprintf("chatter %d %v", 100+c.random.IntN(2000), time.Duration(500+c.random.IntN(3000))*time.Millisecond))
	return nil
}

// flood has so many edges come while nothing gets through that the spool is
// full.
func (c *testbed) flood() func() {
	c.net.set(up, hold)
	b := c.books
	b.mu.Lock()
	before, taken := b.count["fault spool_full raised"], b.nTaken
	b.mu.Unlock()
	c.say(fmt.Sprintf("burst %d", edgesToFill))
	b.wait(10*time.Second, func() bool { return b.nTaken > taken+edgesToFill*9/10 })
	b.wait(3*time.Second, func() bool { return b.count["fault spool_full raised"] > before })
	return func() { c.net.set(up, pass) }
}

// edgesToFill take more than 1 MiB in the spool. They are of six inputs, so that
// each is told by itself.
const edgesToFill = 12000
