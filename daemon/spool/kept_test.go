package spool

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/durable"
	"fieldpost/daemon/message"
)

// answer is an entry that somebody waits for.
func answer(t *testing.T) Entry {
	t.Helper()
	e, err := entryOf(message.Record{Kind: message.Answer})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// addKept appends an answer.
func (r *rig) addKept() <-chan struct{} {
	r.t.Helper()
	kept, err := r.s.AppendKept(answer(r.t))
	if err != nil || kept == nil {
		r.t.Fatalf("%v, %v", kept, err)
	}
	return kept
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// keptAfter returns how long it takes until kept is closed, at most a minute.
func keptAfter(kept <-chan struct{}) time.Duration {
	begun := time.Now()
	select {
	case <-kept:
	case <-time.After(time.Minute):
	}
	return time.Since(begun)
}

// An entry is kept when it is on disk, and the disk has it in time however long at_risk is.
func TestKeptWhenOnDisk(t *testing.T) {
	for _, atRisk := range []time.Duration{0, time.Second, 5 * time.Second, 10 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			d := newMemDisk()
			r := newRig(t, d, Options{AtRisk: atRisk}).start()
			kept := r.addKept()
			syncs := d.SyncCount()
			after := keptAfter(kept)
			if after > min(atRisk, 8*time.Second) {
				t.Errorf("at risk %v: kept after %v", atRisk, after)
			}
			if atRisk > 0 && (after < atRisk/2 && after < 5*time.Second || d.SyncCount() == syncs) {
				t.Errorf("at risk %v: kept after %v and %d syncs", atRisk, after, d.SyncCount()-syncs)
			}
			left := d.Cut(rand.New(rand.NewPCG(uint64(atRisk), 1)))
			r.crash(nil)
			if got := brief(newRig(t, left, Options{}).takeItems(all)); got != ":0" {
				t.Errorf("at risk %v: after a power cut there is %q", atRisk, got)
			}
		})
	}
}

// An entry is kept when nobody owes it any more, long before the disk has it.
func TestKeptWhenDone(t *testing.T) {
	for name, do := range map[string]func(r *rig, id uint64){
		"acknowledged": func(r *rig, id uint64) { r.s.Ack(id) },
		"refused":      func(r *rig, id uint64) { r.s.Refuse(id, "too large") },
		"no entry":     func(r *rig, id uint64) { r.s.Corrupt(id) },
		"dropped": func(r *rig, id uint64) {
			for range 8 { // more than memory takes
				if err := r.s.Append(Entry{Class: Events, Body: make([]byte, 100<<10)}); err != nil {
					r.t.Error(err)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, newMemDisk(), Options{AtRisk: time.Hour, Memory: leastMemory})
				kept := r.addKept()
				x, _ := r.next()
				other := r.addKept()
				if isClosed(kept) {
					t.Fatal("kept from the first")
				}
				do(r, x.ID)
				if !isClosed(kept) || name != "dropped" && isClosed(other) {
					t.Errorf("kept %v, the other %v", isClosed(kept), isClosed(other))
				}
			})
		})
	}
}

// After a sync that failed, an entry is kept when it is in another file.
func TestKeptByAnotherFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newMemDisk()
		r := newRig(t, d, Options{AtRisk: 4 * time.Second}).start()
		keptAfter(r.addKept())
		d.Failing(func(op, _ string) error {
			if op == "datasync" {
				return syscall.EIO
			}
			return nil
		})
		if after := keptAfter(r.addKept()); after < 4*time.Second || after > 6*time.Second || d.Data("events-1-2.seg") == nil {
			t.Errorf("kept after %v", after)
		}
		r.crash(nil)
	})
}

// While the disk does not take or sync an entry, it is not kept, however long that lasts. It is
// when the disk works again.
func TestNotKeptByADiskThatFails(t *testing.T) {
	for _, what := range []string{"sync of a new file", "datasync or sync", "write", "syncdir", "create"} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newMemDisk()
				r := newRig(t, d, Options{AtRisk: 4 * time.Second}).start()
				if what == "datasync or sync" { // else the file is new
					keptAfter(r.addKept())
				}
				d.Failing(func(op, _ string) error {
					if strings.Contains(" "+what+" ", " "+op+" ") {
						return syscall.EIO
					}
					return nil
				})
				kept := r.addKept()
				if after := keptAfter(kept); after < time.Minute {
					t.Fatalf("kept after %v", after)
				}
				d.Failing(nil)
				if after := keptAfter(kept); after >= time.Minute {
					t.Error("not kept, and the disk works again")
				}
				if err := r.stopAndClose(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A disk that hangs keeps nothing until it answers.
func TestKeptLateByADiskThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, hang, release := newSlow(t, newMemDisk(), Options{AtRisk: 4 * time.Second})
		r.start()
		hang()
		kept := r.addKept()
		if after := keptAfter(kept); after < time.Minute {
			t.Errorf("kept after %v", after)
		}
		release()
		if after := keptAfter(kept); after > 4*time.Second {
			t.Errorf("the disk has answered, and it is kept %v later", after)
		}
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

// What is not on disk at the end is not kept, and the rest is.
func TestKeptAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newMemDisk()
		r := newRig(t, d, Options{AtRisk: time.Hour}).start()
		kept := r.addKept()
		if err := r.stopAndClose(); err != nil || !isClosed(kept) {
			t.Errorf("stopped in order: kept %v, %v", isClosed(kept), err)
		}
		if kept, err := r.s.AppendKept(answer(t)); kept != nil || !errors.Is(err, ErrClosed) {
			t.Errorf("after the end: %v, %v", kept, err)
		}
		r = newRig(t, d, Options{AtRisk: time.Hour}).start()
		kept = r.addKept()
		r.crash(nil)
		if isClosed(kept) {
			t.Error("kept by a disk that failed at the end")
		}
	})
}

// So many entries are waited for and no more; there is room again when some are kept. An
// entry that is not stored takes none.
func TestMostKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: time.Hour})
		for range mostKept {
			if kept, err := r.s.AppendKept(Entry{Class: Samples, Body: make([]byte, durable.MaxPayload)}); kept != nil || err == nil {
				t.Fatalf("too large: %v, %v", kept, err)
			}
		}
		for range mostKept {
			r.addKept()
		}
		if kept, err := r.s.AppendKept(answer(t)); kept != nil || err != nil {
			t.Errorf("one more: %v, %v", kept, err)
		}
		r.ackAll(r.takeItems(2))
		r.addKept()
		r.addKept()
		if kept, err := r.s.AppendKept(answer(t)); kept != nil || err != nil || r.s.Stats().Events.Pending != mostKept+2 {
			t.Errorf("one more: %v, %v, %+v", kept, err, r.s.Stats())
		}
	})
}

// Settle returns when the disk has everything, or will not have it soon.
func TestSettle(t *testing.T) {
	for name, x := range map[string]struct {
		do   func(r *rig, fail func())
		want time.Duration
		ok   bool
	}{
		"nothing to wait for": {func(r *rig, _ func()) { r.ackAll(r.takeItems(all)) }, 0, true},
		"synced":              {func(r *rig, _ func()) {}, 4 * time.Second, true},
		"acknowledged meanwhile": {func(r *rig, _ func()) {
			time.AfterFunc(time.Second/4, func() { r.ackAll(r.takeItems(all)) })
		}, time.Second / 4, true},
		"the disk fails":  {func(r *rig, fail func()) { fail() }, 2 * time.Second, false},
		"the limit comes": {func(r *rig, fail func()) { time.AfterFunc(time.Second/2, r.cancel) }, time.Second / 2, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newMemDisk()
				r := newRig(t, d, Options{AtRisk: 4 * time.Second}).start()
				ctx, cancel := context.WithCancel(t.Context())
				r.cancel = cancel
				r.add(message.Reading, "air")
				r.add(message.Answer, "")
				x.do(r, func() { d.Failing(full) })
				begun := time.Now()
				ok := r.s.Settle(ctx)
				if d := time.Since(begun); ok != x.ok || d > x.want || d < x.want/2 {
					t.Errorf("%v after %v", ok, d)
				}
				if name == "the disk fails" && r.s.Settle(ctx) {
					t.Error("settled, and the disk has failed")
				}
				d.Failing(nil)
				if err := r.stopAndClose(); err != nil {
					t.Error(err)
				}
				if !r.s.Settle(t.Context()) {
					t.Error("not settled after the end")
				}
			})
		})
	}
}

// Settle does not wait for a disk that hangs, once that is known.
func TestSettleOnADiskThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, hang, release := newSlow(t, newMemDisk(), Options{AtRisk: 4 * time.Second})
		r.start()
		hang()
		r.add(message.Reading, "air")
		begun := time.Now()
		if r.s.Settle(t.Context()) || time.Since(begun) > hangAfter+time.Second {
			t.Errorf("waited for %v", time.Since(begun))
		}
		release()
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

// Many who wait, and entries that come and go: each is told when its own is kept, and never
// before.
func TestKeptOfMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: 4 * time.Second}).start()
		for k := range 40 {
			kept := r.addKept()
			r.add(message.Reading, fmt.Sprint("s", k%3))
			var want time.Duration
			if k%2 == 0 {
				want = time.Duration(k) * 20 * time.Millisecond
				time.AfterFunc(want, func() { r.ackAll(r.takeItems(all)) })
			}
			if after := keptAfter(kept); k%2 == 0 && after != want || after > 4*time.Second {
				t.Errorf("%d: kept after %v, want %v", k, after, want)
			}
		}
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}
