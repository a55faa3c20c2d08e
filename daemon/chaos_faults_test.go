//go:build chaos && linux

package daemon_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"fieldpost/daemon/broker"
	"fieldpost/daemon/uplink"
)

// A mischief is one way to do harm. Two of the same part are never done at
// once. Some are over at once, others last until they are healed.
type mischief struct {
	name   string
	weight int
	part   string
	can    func(*chaos) bool // nil is always
	do     func(*chaos) (heal func())
}

// mischiefs are all that is done.
var mischiefs = []mischief{
	{name: "daemon killed", weight: 10, part: "daemon", can: (*chaos).diskGood, do: func(c *chaos) func() { c.kill(); c.start(); return nil }},
	{name: "daemon killed and bits flipped", weight: 5, part: "daemon", can: (*chaos).diskGood, do: (*chaos).spoil},
	{name: "daemon stopped in order", weight: 4, part: "daemon", can: (*chaos).diskGood, do: func(c *chaos) func() { c.restart(); return nil }},
	{name: "daemon suspended", weight: 4, part: "daemon", do: (*chaos).suspend},
	{name: "daemon suspended, then killed", weight: 1, part: "daemon", can: (*chaos).diskGood, do: (*chaos).suspendAndKill},
	{name: "broker killed", weight: 3, part: "broker", do: func(c *chaos) func() { return c.losesBroker((*mosquitto).Kill) }},
	{name: "broker stopped in order", weight: 4, part: "broker", do: func(c *chaos) func() { return c.losesBroker((*mosquitto).Stop) }},
	{name: "duplicate client", weight: 4, part: "broker", do: (*chaos).rival},
	{name: "connection reset", weight: 10, part: "link", can: (*chaos).wantLink, do: func(c *chaos) func() { c.net.reset(); return nil }},
	{name: "black hole to the broker", weight: 6, part: "up", can: (*chaos).wantLink, do: flowing(up, swallow)},
	{name: "black hole from the broker", weight: 6, part: "down", can: (*chaos).wantLink, do: flowing(down, swallow)},
	{name: "broker stalls", weight: 6, part: "up", can: (*chaos).wantLink, do: flowing(up, hold)},
	{name: "acknowledgements withheld", weight: 8, part: "down", can: (*chaos).wantLink, do: flowing(down, hold)},
	{name: "bad certificate", weight: 5, part: "certificate", do: (*chaos).badCertificate},
	{name: "clock stepped", weight: 4, part: "clock", do: (*chaos).stepClock},
	{name: "disk full", weight: 6, part: "disk", can: (*chaos).ownDisk, do: (*chaos).fullDisk},
	{name: "disk read-only from the start", weight: 2, part: "disk", can: func(c *chaos) bool { return c.ownDisk() && c.diskGood() }, do: (*chaos).readOnlyDisk},
}

// wantLink waits a little for the link, so that there is something to break.
func (c *chaos) wantLink() bool {
	c.books.wait(time.Second, func() bool { return c.books.linked })
	return true
}

// diskGood reports whether what was taken a second or two ago is on disk.
func (c *chaos) diskGood() bool {
	c.books.mu.Lock()
	defer c.books.mu.Unlock()
	return c.ills["disk"] == nil && !c.books.diskDown
}

func (c *chaos) ownDisk() bool { return c.disk.mine }

func flowing(way int, what flow) func(*chaos) func() {
	return func(c *chaos) func() {
		c.net.set(way, what)
		return func() { c.net.set(way, pass) }
	}
}

// restart ends the daemon in order and starts it again.
func (c *chaos) restart() {
	c.end(syscall.SIGTERM, patience)
	c.start()
}

// spoil flips bits in a file of the spool while nobody uses it.
func (c *chaos) spoil() func() {
	c.kill()
	name := c.flip()
	c.note("flipped bits of %q", name)
	if parts := strings.Split(name, "-"); len(parts) == 3 { // lane, run, number
		run, _ := strconv.ParseUint(parts[1], 10, 64)
		c.books.mu.Lock()
		if r := c.books.runs[run]; r != nil {
			r.flipped = true
		}
		c.books.count["files flipped"]++
		c.books.mu.Unlock()
	}
	c.start()
	return nil
}

func (c *chaos) suspend() func() {
	from := c.now()
	_ = c.child.Process.Signal(syscall.SIGSTOP) // that it has ended by itself is found later
	c.books.wait(time.Duration(50+c.random.IntN(1200))*time.Millisecond, func() bool { return false })
	_ = c.child.Process.Signal(syscall.SIGCONT)
	c.books.mu.Lock()
	defer c.books.mu.Unlock()
	if r := c.books.runs[c.books.run]; r != nil {
		r.stops = append(r.stops, pause{from, c.now()})
	}
	return nil
}

func (c *chaos) suspendAndKill() func() {
	_ = c.child.Process.Signal(syscall.SIGSTOP)
	c.books.wait(time.Duration(50+c.random.IntN(500))*time.Millisecond, func() bool { return false })
	c.kill()
	c.start()
	return nil
}

// losesBroker ends the broker. It lets the daemon in again only when the
// books' subscriber is there: who is not subscribed is owed nothing.
func (c *chaos) losesBroker(how func(*mosquitto)) func() {
	how(c.broker)
	c.books.mu.Lock()
	c.books.crashes = append(c.books.crashes, c.now())
	c.books.mu.Unlock()
	c.net.gate(false)
	c.listens()
	return func() {
		c.broker.Start()
		c.listen()
		c.net.gate(true)
	}
}

// rival connects with the daemon's client id, so that the broker drops it.
func (c *chaos) rival() func() {
	heard := make(chan uplink.Status, 256)
	l, err := uplink.New(uplink.Config{
		Endpoint: c.broker.Addr, ClientID: chaosThing, CA: c.broker.CA, Certificate: c.broker.Cert, Key: c.broker.Key,
		Outbox: uplink.NewQueue(), Observe: changes(heard),
	})
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	until(c.t, "connection of the rival", heard, func(s uplink.Status) bool { return s.Connected })
	cancel()
	<-ended
	return nil
}

// badCertificate puts files of another authority in the place of the daemon's,
// or what is no certificate at all.
func (c *chaos) badCertificate() func() {
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

func (c *chaos) get(name string) []byte {
	data, err := os.ReadFile(name)
	if err != nil {
		c.t.Fatal(err)
	}
	return data
}

func (c *chaos) put(name string, data []byte) {
	if err := os.WriteFile(name, data, 0o600); err != nil {
		c.t.Fatal(err)
	}
}

func (c *chaos) fullDisk() func() {
	c.disk.fill()
	return c.disk.clear
}

func (c *chaos) readOnlyDisk() func() {
	c.kill()
	c.disk.protect(true)
	c.start()
	return func() { c.disk.protect(false) }
}

// stepClock puts the daemon's wall clock wrong, until it is healed or the
// daemon ends.
func (c *chaos) stepClock() func() {
	steps := []time.Duration{-10 * 365 * 24 * time.Hour, -time.Hour, -time.Second, time.Second, time.Hour, 20 * 24 * time.Hour}
	c.step(steps[c.random.IntN(len(steps))])
	return func() { c.step(0) }
}

func (c *chaos) step(by time.Duration) {
	if _, err := fmt.Fprintln(c.stdin, by); err != nil {
		c.t.Errorf("step the daemon's clock: %v", err)
	}
}
