//go:build chaos && linux

package chaos

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/uplink"
)

// firstThing is the daemon's first thing. chaosClient is always its client id, so that
// its session outlives all changes of the configuration.
const (
	firstThing = "thing-chaos"
	clientID   = "thing-chaos"
)

// testbed is a daemon process with its network and broker, a client that subscribes and
// sends orders, and the checker.
type testbed struct {
	t       *testing.T
	program string // fieldpost with a simulated board
	dir     string
	random  *rand.Rand
	clock   clock.Clock
	broker  *daemontest.Mosquitto
	net     *proxy
	checker *checker
	disk    *spoolDisk
	bounded bool // the spool is small enough to be filled
	settings
	memory  *daemontest.MemoryGroup  // of the daemon's processes; nil if memory cannot be limited
	ongoing map[string]*ongoingFault // by the part with the fault
	done    map[string]int           // the number of injections of each fault
	story   []string                 // the latest notes

	child         *daemonProcess
	queue         *uplink.Queue // orders to send to the broker
	subscriber    *uplink.Link  // the client's link
	stopListening func()        // ends the client
	senders       sync.WaitGroup
	stopSenders   context.CancelFunc // ends the senders of orders
	dial          clockDial

	retained *sentOrder // the retained order at the broker
}

// risks are possible values of spool.at_risk, readingsKeys possible keys of readings, and bounds
// other keys of the spool. The seed chooses one of each.
var (
	risks        = []string{"0s", "1s", "5s", "5s"}
	readingsKeys = []string{
		"topic: test/topic",
		`topic: "test/topic/{sensor}"`,
		"topic: test/topic, batch: {max: 20, within: 300ms}",
		`topic: "test/topic/{sensor}", batch: {max: 5, within: 1s}`,
		`topic: "test/topic/by/{thing}"`,
	}
	bounds = []string{"", ", max_bytes: 1MiB, max_age: 1m"}
)

const configText = `thing: %s
broker: {endpoint: %s, client_id: %s}
readings: {%s}
commands: {topic: %s, answers: test/topic/answers}
spool: {dir: spool, at_risk: %s%s}
sensors:
  - {name: air, chip: bme280, bus: i2c-1, address: 0x76, every: %s}
  - {name: soil-0, chip: lm75, bus: i2c-1, address: 0x48, every: 50ms}
  - {name: soil-1, chip: lm75, bus: i2c-1, address: 0x49, every: 50ms}
  - {name: soil-2, chip: lm75, bus: i2c-1, address: 0x4a, every: 50ms}
  - {name: door, chip: gpio, pin: GPIO17, pull: up, active_low: true}
  - {name: gate-0, chip: gpio, pin: GPIO5, max_edges: 1000/s}
  - {name: gate-1, chip: gpio, pin: GPIO6, max_edges: 1000/s}
  - {name: gate-2, chip: gpio, pin: GPIO7, max_edges: 1000/s}
  - {name: gate-3, chip: gpio, pin: GPIO8, max_edges: 1000/s}
  - {name: gate-4, chip: gpio, pin: GPIO9, max_edges: 1000/s}
  - {name: gate-5, chip: gpio, pin: GPIO10, max_edges: 1000/s}
local: {listen: "%s", token_file: page.token}
outputs:
  - {name: pump, pin: GPIO22, initial: off, safe: off, refresh: 6s}
  - {name: fan, pin: GPIO23, initial: off, safe: off, active_low: true, safe_after: 2s}
  - {name: lamp, pin: GPIO24, initial: off, safe: off, max_on: 400ms}
  - {name: siren, pin: GPIO27, initial: off, safe: off}
  - {name: bell, pin: GPIO12, initial: off, safe: off}
%s`

// lines are the outputs that get orders all the time. All orders for siren are retained
// messages; all orders for bell come from the page.
var lines = map[string]string{"pump": "GPIO22", "fan": "GPIO23", "lamp": "GPIO24", siren: "GPIO27", bell: "GPIO12"}

const siren = "siren"

func newTestbed(t *testing.T, program string, random *rand.Rand, dir string) *testbed {
	t.Helper()
	now, err := clock.System()
	if err != nil {
		t.Fatal(err)
	}
	c := &testbed{
		t: t, program: program, dir: dir, random: random, clock: now, checker: newChecker(func() time.Duration { return now.Now().Mono }), ongoing: map[string]*ongoingFault{}, done: map[string]int{},
		queue: uplink.NewQueue(), dial: clockDial{synced: true},
		broker: daemontest.StartMosquitto(t, "max_inflight_messages 100"),
	}
	c.net = startProxy(t, c.broker.Addr)
	if strings.Contains(os.Getenv("CHAOS_BUILD"), "-race") {
		t.Log("NOT TESTED: the unit's limit of memory; the race detector takes more")
	} else {
		c.memory = daemontest.NewMemoryGroup(t, filepath.Base(dir), daemontest.UnitMemoryMax(t))
	}
	c.disk = mountDisk(t, filepath.Join(dir, "spool"))
	if err := os.CopyFS(filepath.Join(dir, "certs"), os.DirFS(filepath.Dir(c.broker.CA))); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "run"), 0o700); err != nil {
		t.Fatal(err)
	}
	keys, risk, bound := readingsKeys[random.IntN(len(readingsKeys))], risks[random.IntN(len(risks))], bounds[random.IntN(len(bounds))]
	c.bounded = bound != ""
	c.checker.atRisk, _ = time.ParseDuration(risk)
	c.note("%s; at risk: %s%s", keys, risk, bound)
	c.settings = settings{keys: keys, risk: risk, bound: bound, thing: firstThing, ordersTopic: "test/topic/commands", period: periods[0]}
	c.preparePage()
	c.configure()
	ctx, stop := context.WithCancel(context.Background())
	c.stopSenders = stop
	t.Cleanup(func() {
		c.stopOrders()
		c.kill()
		if c.stopListening != nil {
			c.stopListening()
		}
	})
	c.listen()
	c.net.gate(true)
	c.start()
	user := &pageUser{c: c, b: c.checker}
	for output := range lines {
		h := orderSender{c: c, b: c.checker, output: output, random: rand.New(rand.NewPCG(random.Uint64(), 0))}
		switch output {
		case siren:
		case bell:
			c.senders.Go(func() { (&pageSender{orderSender: h, user: user}).work(ctx) })
		default:
			c.senders.Go(func() { h.work(ctx) })
		}
	}
	hammer := &pageHammer{c: c, b: c.checker, user: user, random: rand.New(rand.NewPCG(random.Uint64(), 0))}
	c.senders.Go(func() { hammer.work(ctx) })
	return c
}

// stopOrders ends the senders of orders.
func (c *testbed) stopOrders() {
	c.stopSenders()
	c.checker.mu.Lock()
	c.checker.wakeLocked()
	c.checker.mu.Unlock()
	c.senders.Wait()
}

// settings are the parts of the daemon's configuration that differ between boards, or
// that restarts and reloads change.
type settings struct {
	keys, risk, bound  string
	thing, ordersTopic string
	period, spare      string
	page               string // its address, one of pages
	pages              []string
	renames            int // how often thing or ordersTopic has changed
}

// configure writes the configuration of the next run, or of a reload.
func (c *testbed) configure() {
	s := c.settings
	c.put(c.config(), fmt.Appendf(nil, configText, s.thing, c.net.addr, clientID, s.keys, s.ordersTopic, s.risk, s.bound, s.period, s.page, s.spare))
	c.checker.mu.Lock()
	defer c.checker.mu.Unlock()
	c.checker.address(s.thing, s.ordersTopic)
	c.checker.page = s.page
}

func (c *testbed) config() string { return filepath.Join(c.dir, "fieldpost.yaml") }

func (c *testbed) now() time.Duration { return c.clock.Now().Mono }

// clockDial is how the daemon's clock is set.
type clockDial struct {
	off    time.Duration
	synced bool
	boots  int // how often the board was restarted
}

// String returns the command that sets the clock; see cmd/fieldpost/simulated.go.
func (d clockDial) String() string {
	boot := "-"
	if d.boots > 0 {
		boot = fmt.Sprintf("00000000-0000-4000-8000-%012d", d.boots)
	}
	return fmt.Sprintf("clock %v %v %s", d.off, d.synced, boot)
}

// turn sets the daemon's clock.
func (c *testbed) turn(d clockDial) {
	c.dial = d
	c.checker.mu.Lock()
	c.checker.dialled(d)
	c.checker.mu.Unlock()
	c.say(d.String())
}

// say sends a command to the daemon.
func (c *testbed) say(command string) {
	if c.child == nil {
		return
	}
	if _, err := io.WriteString(c.child.stdin, command+"\n"); err != nil {
		c.t.Errorf("command the daemon: %v", err)
	}
}

// listen starts the client that subscribes and sends the orders, and waits until it has
// subscribed. It does not use the proxy.
func (c *testbed) listen() {
	c.t.Helper()
	heard := make(chan uplink.Status, 256)
	l, err := uplink.New(uplink.Config{
		Endpoint: c.broker.Addr, ClientID: "checker", CA: c.broker.CA, Certificate: c.broker.Cert, Key: c.broker.Key,
		Subscriptions: []uplink.Subscription{{Filter: "test/#", QoS: 1}}, Outbox: c.queue, Observe: daemontest.ConnectionChanges(heard),
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.subscriber = l
	ctx, cancel := context.WithCancel(context.Background())
	var both sync.WaitGroup
	both.Go(func() { _ = l.Run(ctx) }) // fails only if called twice
	both.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case m := <-l.Messages():
				c.checker.arrive(m.Topic, m.Payload)
				m.Ack()
			}
		}
	})
	c.stopListening = func() {
		cancel()
		both.Wait()
	}
	daemontest.Await(c.t, "subscription of the checker", heard, func(s uplink.Status) bool { return s.Connected && len(s.Denied) == 0 })
}
