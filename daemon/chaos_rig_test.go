//go:build chaos && linux

package daemon_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/uplink"
)

// chaos is a daemon in a process of its own, a network, a broker, somebody who
// listens, and the books.
type chaos struct {
	t      *testing.T
	dir    string
	random *rand.Rand
	clock  clock.Clock
	broker *mosquitto
	net    *chaosProxy
	books  *books
	disk   *chaosDisk
	ills   map[string]*ill // by the part that is ill
	done   map[string]int  // what was done, how often
	story  []string        // the last of it

	child   *exec.Cmd
	stdin   io.WriteCloser
	ended   chan error // delivers once, when child has
	listens func()     // ends the subscriber
}

// risks are what spool.at_risk may be, and mails what may be said of readings:
// the seed decides.
var (
	risks = []string{"0s", "1s", "5s", "5s"}
	mails = []string{
		"topic: test/topic",
		`topic: "test/topic/{sensor}"`,
		"topic: test/topic, batch: {max: 20, within: 300ms}",
		`topic: "test/topic/{sensor}", batch: {max: 5, within: 1s}`,
	}
)

func newChaos(t *testing.T, random *rand.Rand, dir string) *chaos {
	t.Helper()
	now, err := clock.System()
	if err != nil {
		t.Fatal(err)
	}
	c := &chaos{
		t: t, dir: dir, random: random, clock: now, books: newBooks(), ills: map[string]*ill{}, done: map[string]int{},
		broker: startMosquitto(t, "max_inflight_messages 100"),
	}
	c.net = startProxy(t, c.broker.Addr)
	c.disk = mountDisk(t, filepath.Join(dir, "spool"))
	if err := os.CopyFS(filepath.Join(dir, "certs"), os.DirFS(filepath.Dir(c.broker.CA))); err != nil {
		t.Fatal(err)
	}
	mail, risk := mails[random.IntN(len(mails))], risks[random.IntN(len(risks))]
	c.note("%s; at risk: %s", mail, risk)
	text := fmt.Appendf(nil, chaosConfig, chaosThing, c.net.addr, mail, risk)
	if err := os.WriteFile(c.config(), text, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.kill()
		if c.listens != nil {
			c.listens()
		}
	})
	c.listen()
	c.net.gate(true)
	c.start()
	return c
}

func (c *chaos) config() string { return filepath.Join(c.dir, "fieldpost.yaml") }

func (c *chaos) now() time.Duration { return c.clock.Now().Mono }

// start starts the daemon and waits until it has taken something.
func (c *chaos) start() {
	c.t.Helper()
	log, err := os.OpenFile(filepath.Join(c.dir, "daemon.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	defer log.Close()
	r, w, err := os.Pipe()
	if err != nil {
		c.t.Fatal(err)
	}
	c.child = exec.Command(os.Args[0])
	c.child.Env = append(os.Environ(), chaosChild+"="+c.config())
	c.child.Stdout, c.child.Stderr, c.child.ExtraFiles = log, log, []*os.File{w}
	if c.stdin, err = c.child.StdinPipe(); err != nil {
		c.t.Fatal(err)
	}
	err = c.child.Start()
	_ = w.Close()
	if err != nil {
		_ = r.Close()
		c.child = nil
		c.t.Fatal(err)
	}
	c.ended = make(chan error, 1)
	before := c.books.fresh()
	go witnessed(c.child, r, c.books, c.ended)
	started := false
	c.books.wait(patience, func() bool {
		started = c.books.nTaken > before
		return started || c.books.silent
	})
	if !started {
		c.t.Fatal("the daemon does not start; see daemon.log")
	}
}

// fresh readies the books for a run.
func (b *books) fresh() (taken int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.linked, b.denied, b.diskDown, b.silent = false, false, false, false
	return b.nTaken
}

// witnessed enters all that a child says into the books until it ends.
func witnessed(child *exec.Cmd, r *os.File, b *books, ended chan<- error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		b.entry(lines.Text())
	}
	_ = r.Close()
	b.mu.Lock()
	b.silent = true
	b.stir()
	b.mu.Unlock()
	ended <- child.Wait()
}

// kill ends the daemon on the spot.
func (c *chaos) kill() { c.end(syscall.SIGKILL, patience) }

// end ends the daemon, if there is one, and waits until its last word is in
// the books.
func (c *chaos) end(how syscall.Signal, d time.Duration) {
	c.t.Helper()
	if c.child == nil {
		return
	}
	_ = c.child.Process.Signal(how) // that it has ended by itself shows below
	var err error
	select {
	case err = <-c.ended:
	case <-time.After(d):
		_ = c.child.Process.Kill()
		<-c.ended
		err = fmt.Errorf("it did not end within %v", d)
	}
	c.child = nil
	_ = c.stdin.Close()
	if how == syscall.SIGKILL {
		if err == nil || err.Error() != "signal: killed" {
			c.t.Errorf("the daemon had ended before it was killed: %v", err)
		}
		c.books.mu.Lock()
		if r := c.books.runs[c.books.run]; r != nil {
			r.killed = true
		}
		c.books.mu.Unlock()
	} else if err != nil {
		c.t.Errorf("end the daemon with %v: %v", how, err)
	}
}

// listen starts the subscriber and waits until it has subscribed. It goes past
// the proxy.
func (c *chaos) listen() {
	c.t.Helper()
	heard := make(chan uplink.Status, 256)
	l, err := uplink.New(uplink.Config{
		Endpoint: c.broker.Addr, ClientID: "books", CA: c.broker.CA, Certificate: c.broker.Cert, Key: c.broker.Key,
		Subscriptions: []uplink.Subscription{{Filter: "test/#", QoS: 1}}, Outbox: uplink.NewQueue(), Observe: changes(heard),
	})
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var both sync.WaitGroup
	both.Go(func() { _ = l.Run(ctx) }) // it runs once only, so gives no error
	both.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case m := <-l.Messages():
				c.books.arrive(m.Payload)
				m.Ack()
			}
		}
	})
	c.listens = func() {
		cancel()
		both.Wait()
	}
	until(c.t, "subscription of the books", heard, func(s uplink.Status) bool { return s.Connected && len(s.Denied) == 0 })
}
