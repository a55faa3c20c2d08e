package main

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon/api"
	"fieldpost/daemon/broker"
	"fieldpost/daemon/client"
	"fieldpost/daemon/identity"
)

// fleetBoard is a board with nothing but a claim, whose daemon is a process of its own, and
// the broker that provisions it.
type fleetBoard struct {
	t        *testing.T
	dir      string
	requests chan string      // the topics of requests, when they have come
	fates    chan broker.Fate // what becomes of them; the broker waits for it
}

func newFleetBoard(t *testing.T) *fleetBoard {
	t.Helper()
	b := &fleetBoard{t: t, dir: t.TempDir(), requests: make(chan string, 100), fates: make(chan broker.Fate, 100)}
	template, err := broker.ReadTemplate("fieldpost", filepath.Join(root, "configs/provisioning/template.json"))
	if err != nil {
		t.Fatal(err)
	}
	served, err := broker.New(broker.Options{Dir: filepath.Join(b.dir, "certs"), Provisioning: &broker.Provisioning{
		Templates: []*broker.Template{template},
		Intercept: func(topic string) broker.Fate {
			b.requests <- topic
			return <-b.fates
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- served.Run(ctx) }()
	t.Cleanup(func() {
		close(b.fates) // all that still come are answered
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	text := "thing: thing-1\nbroker:\n  endpoint: " + served.Addr() + "\n  provisioning: {template: fieldpost, parameters: {ThingName: \"{thing}\"}}\nreadings: {topic: test/topic}\nspool: {dir: spool}\n"
	if err := os.WriteFile(filepath.Join(b.dir, "fieldpost.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *fleetBoard) start() *runningDaemon {
	b.t.Helper()
	return startDaemonWith(b.t, filepath.Join(b.dir, "fieldpost.yaml"))
}

// kill ends the daemon as a power cut does, but that the kernel lives on.
func (b *fleetBoard) kill(d *runningDaemon) {
	b.t.Helper()
	if err := d.Process.Kill(); err != nil {
		b.t.Fatal(err)
	}
	_ = d.Wait() // killed
}

// await waits for a request to a topic that ends so. Requests before it are answered.
func (b *fleetBoard) await(suffix string) {
	b.t.Helper()
	end := time.NewTimer(time.Minute)
	defer end.Stop()
	for {
		select {
		case topic := <-b.requests:
			if strings.HasSuffix(topic, suffix) {
				return
			}
			b.fates <- broker.Answered
		case <-end.C:
			b.t.Fatalf("no request to %s", suffix)
		}
	}
}

// answerAll answers all requests until stop is called.
func (b *fleetBoard) answerAll() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case <-b.requests:
				b.fates <- broker.Answered
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// connected waits until the daemon is connected, and returns its certificate's id.
func (b *fleetBoard) connected() string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		var s api.Status
		s, err := client.AskStatus(ctx, filepath.Join(b.dir, "fieldpost.sock"))
		if err == nil && s.Link.Connected {
			if c, err := identity.ReadCertificate(b.current()); err == nil {
				return identity.ID(c)
			}
		}
		if ctx.Err() != nil {
			b.t.Fatalf("not connected: %v, %+v", err, s)
		}
		<-again.C
	}
}

func (b *fleetBoard) current() string { return filepath.Join(b.dir, "spool", "certs", "current.pem") }

// The daemon is killed at each request of its provisioning, whether or not that has taken
// effect and was answered, and then at random moments of its renewals. Each time it starts
// again with what it has, and in the end it has a certificate that works.
func TestKilledProvisioning(t *testing.T) {
	t.Parallel()
	b := newFleetBoard(t)
	for _, step := range []string{"create-from-csr/json", "provision/json"} {
		for _, fate := range []broker.Fate{broker.Ignored, broker.Lost, broker.Answered} {
			d := b.start()
			b.await(step)
			if fate == broker.Answered {
				b.fates <- fate
				b.kill(d)
			} else {
				b.kill(d)
				b.fates <- fate
			}
			if step == "create-from-csr/json" {
				continue
			}
			if _, err := os.Stat(b.current()); err == nil {
				break // it was faster than the kill
			}
			if fate == broker.Lost {
				break // the thing is registered; there is no other request
			}
		}
	}
	stop := b.answerAll()
	defer func() { stop() }()
	d := b.start()
	first := b.connected()
	b.kill(d)

	changed := 0
	last := first
	for range 10 {
		d := b.start()
		b.connected()
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rand.IntN(300))*time.Millisecond)
		_, _ = client.AskRenew(ctx, filepath.Join(b.dir, "fieldpost.sock"), "") // it is killed meanwhile, or has ended
		cancel()
		b.kill(d)
		c, err := identity.ReadCertificate(b.current())
		if err != nil {
			t.Fatal(err)
		}
		if id := identity.ID(c); id != last {
			changed, last = changed+1, id
		}
	}
	d = b.start()
	b.connected()
	if a, err := client.AskRenew(context.Background(), filepath.Join(b.dir, "fieldpost.sock"), "thing-1"); err != nil || a.File != b.current() {
		t.Errorf("%+v, %v", a, err)
	}
	if id := b.connected(); id == last {
		t.Error("the certificate was not renewed")
	}
	b.kill(d)
	t.Logf("%d of 10 renewals that were killed had replaced the certificate", changed)
}
