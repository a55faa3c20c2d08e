package spool

import (
	"context"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/message"
)

// follow takes what Next gives, and when there is nothing waits for Ready and
// for nothing else. It counts records of the samples.
func (r *rig) follow(ctx context.Context, Samples *atomic.Int64) {
	for {
		if x, ok := nextOf(r.s); ok {
			if x.Record.Kind.Sample() {
				Samples.Add(1)
			}
			continue
		}
		select {
		case <-r.s.Ready():
		case <-ctx.Done():
			return
		}
	}
}

// gated opens a spool on d that reads files whose name begins so only when let
// is called, once for each.
func gated(t *testing.T, d *memDisk, prefix string) (r *rig, let func()) {
	gate := make(chan bool)
	var loaded atomic.Bool // until then Open reads all
	r = newRigOn(t, d, &slowDisk{d, func(op, file string) {
		if op == "read" && strings.HasPrefix(file, prefix) && loaded.Load() {
			<-gate
		}
	}}, Options{AtRisk: time.Second})
	loaded.Store(true)
	let = func() {
		t.Helper()
		synctest.Wait()
		select {
		case gate <- true:
			synctest.Wait()
		default:
			t.Fatal("nothing is being read")
		}
	}
	return r, let
}

// Who waits for Ready alone gets what there is: also where a file is wanted
// while it is being read ahead, and where that reading fails.
func TestReadyTellsOfWhatWasReadAhead(t *testing.T) {
	for name, fails := range map[string]error{"read": nil, "fails once": syscall.EIO} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, let := gated(t, backlog(t, true), "samples")
				r.start()
				ctx, cancel := context.WithCancel(t.Context())
				var n atomic.Int64
				go r.follow(ctx, &n)
				let()
				first := n.Load()
				if first == 0 || first >= 5000 {
					t.Fatalf("%d samples while the second file is read ahead", first)
				}
				r.d.Failing(only("read", "samples", fails))
				let() // before the disk is known to hang, which has Next called too
				if fails != nil {
					r.d.Failing(nil)
					wait(settleDelay) // it is read again then
					let()
				}
				if got := n.Load(); got <= first || got >= 10000 {
					t.Errorf("%d samples while the third is read ahead", got)
				}
				let()
				if got := n.Load(); got != 10000 {
					t.Errorf("%d samples, and waits", got)
				}
				cancel()
				if err := r.end(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// An event that has to be read is acknowledged before the reader comes to it:
// then there is nothing to read, and the samples behind it are due.
func TestReadyTellsThatNothingNeedsToBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, backlog(t, true), Options{AtRisk: time.Second})
		edge, _ := r.next()
		r.add(message.Reading, "air")
		r.s.Rewind()
		if _, ok := nextOf(r.s); ok {
			t.Fatal("the edge is still in memory")
		}
		<-r.s.Ready()
		r.s.Ack(edge.ID)
		r.start()
		select {
		case <-r.s.Ready():
		default:
			t.Error("nobody tells that the samples are due")
		}
		if err := r.end(); err != nil {
			t.Error(err)
		}
	})
}

// While a file of events that cannot be read waits to be read again, the
// samples are due at once.
func TestReadyTellsOfSamplesWhileEventsAreReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, backlog(t, true), Options{AtRisk: time.Second})
		r.d.Failing(only("read", "events", syscall.EIO))
		r.start()
		ctx, cancel := context.WithCancel(t.Context())
		var n atomic.Int64
		go r.follow(ctx, &n)
		synctest.Wait()
		if got := n.Load(); got != 10000 {
			t.Errorf("%d samples before the events are read again", got)
		}
		cancel()
		if err := r.end(); err != nil {
			t.Error(err)
		}
	})
}
