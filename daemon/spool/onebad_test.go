package spool

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/message"
)

// whenBad are moments from which on one file is bad.
var whenBad = map[string]func(r *rig, bad func(op, name string) error) *rig{
	"the spool is full": func(r *rig, bad func(op, name string) error) *rig {
		r.d.Failing(bad)
		r.airAndSoil(200)
		return r
	},
	"after a stop": func(r *rig, bad func(op, name string) error) *rig {
		if err := r.stopAndClose(); err != nil {
			r.t.Error(err)
		}
		r.d.Failing(bad)
		return newRig(r.t, r.d, r.o).start()
	},
	"after a stop, damaged": func(r *rig, bad func(op, name string) error) *rig {
		if err := r.stopAndClose(); err != nil {
			r.t.Error(err)
		}
		flip(r.d, "samples-1-1.seg", 1000)
		r.d.Failing(bad)
		return newRig(r.t, r.d, r.o).start()
	},
	"after a kill": func(r *rig, bad func(op, name string) error) *rig {
		r.add(message.Reading, "air")
		wait(600 * time.Millisecond) // written, not synced
		left := r.crash(r.d.Kill())
		left.Failing(bad)
		return newRig(r.t, left, r.o).start()
	},
}

func (r *rig) airAndSoil(n int) {
	for range n {
		r.add(message.Reading, "air")
		r.addAll(message.Reading, "soil", 100)
		wait(100 * time.Millisecond)
	}
}

// An operation fails for one file only, whatever is tried: the file has a bad sector or a damaged
// inode, is immutable, is a directory, or belongs to somebody else. Everything else goes to
// the disk all the same, without a fault that comes and goes, and the spool stops in order.
func TestOneFileIsBad(t *testing.T) {
	const seg = "samples-1-1.seg"
	for file, ops := range map[string]string{
		seg:          "read add sync datasync truncate rename remove size",
		seg + ".tmp": "create write sync rename remove",
		refusedName:  "add write sync rename size",
		runName:      "read size",
		ackName:      "read size truncate",
		identityName: "read size",
	} {
		for _, op := range strings.Fields(ops) {
			for when, from := range whenBad {
				t.Run(strings.Join([]string{op, file, when}, " "), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						r := newRig(t, newMemDisk(), Options{AtRisk: time.Second, MaxBytes: 1 << 20, RuntimeDir: memoryDir(t)}).start()
						r.airAndSoil(50)
						wait(3 * time.Second)
						r = from(r, func(o, name string) error {
							if o == op && name == file {
								return syscall.EUCLEAN
							}
							return nil
						})
						r.worksDespite(func() {})
					})
				})
			}
		}
	}
}

// worksDespite checks that what is appended is soon on disk, and that the run ends well
// after end.
func (r *rig) worksDespite(end func()) {
	r.t.Helper()
	for range 3 {
		for k, x := range r.takeItems(1000) {
			if k == 7 {
				r.s.Refuse(x.ID, "no")
			} else {
				r.s.Ack(x.ID)
			}
		}
		wait(time.Second)
	}
	wait(time.Minute)
	r.takeFaults()
	for range 30 {
		r.add(message.Reading, "air")
		wait(3 * time.Second)
		r.s.Verify()
		synctest.Wait()
		if n := r.s.Backlog().AtRisk; n != 0 || !r.s.Stats().Disk {
			r.t.Fatalf("%d are at risk, disk %v: %s", n, r.s.Stats().Disk, r.detail)
		}
	}
	if got := r.takeFaults(); strings.Contains(got, "spool_unavailable") {
		r.t.Errorf("faults: %s, %s", got, r.detail)
	}
	end()
	if err := r.stopAndClose(); err != nil {
		r.t.Error(err)
	}
}

// A journal was removed and cannot be restored, alone or with the directory. That is not the
// disk's fault: everything else is written.
func TestJournalThatCannotBeRestored(t *testing.T) {
	for _, whole := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, newMemDisk(), Options{AtRisk: time.Second}).start()
			j := r.s.Journal("boots")
			if err := j.Rewrite(slices.Values([][]byte{[]byte("a")})); err != nil {
				t.Fatal(err)
			}
			r.airAndSoil(50)
			wait(3 * time.Second)
			r.d.Failing(only("rename", "boots.journal", syscall.EUCLEAN))
			if whole {
				r.d.Vanish()
			} else if err := r.d.Remove("boots.journal"); err != nil {
				t.Fatal(err)
			}
			r.s.Verify()
			r.worksDespite(func() { // at the end it can be restored after all
				if r.d.Data("boots.journal") != nil {
					t.Error("it was restored")
				}
				r.d.Failing(nil)
			})
			if got := entries(t, newRig(t, r.d, Options{}).s.Journal("boots")); !slices.Equal(got, []string{"a"}) {
				t.Errorf("it holds %q", got)
			}
		})
	}
}
