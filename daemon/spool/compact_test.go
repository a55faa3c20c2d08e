package spool

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/message"
)

// A flood of edges while the link is down: the only file of the edges is rewritten without those
// that are dropped, so that it ends earlier than it did. A kill at whichever touch of the disk, then
// or later, is no damage, and the risk file is trusted.
func TestAKillWhileTheLastFileIsRewritten(t *testing.T) {
	for name, fails := range map[string]string{"": "", "the sync of the directory fails": "syncdir", "the rename fails": "rename", "the write fails": "write"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { killAtEveryTouch(t, fails) })
		})
	}
}

// killAtEveryTouch floods a spool and kills it before each thing that it does to its disk
// meanwhile. The first of these of a kind, once the new file is begun, fails.
func killAtEveryTouch(t *testing.T, fails string) {
	const begun = "edges-1-1.seg.tmp"
	o := Options{AtRisk: 5 * time.Second, MaxBytes: 1 << 20, RuntimeDir: memoryDir(t), Sensors: []string{"door", "gate"}, Thing: "thing", Board: "board"}
	r := newRig(t, newMemDisk(), o).start()
	for range 20 {
		r.add(message.Edge, "door")
		r.addAll(message.Edge, "gate", 20)
	}
	wait(8 * time.Second)
	type kill struct {
		what, runtime string
		d             *memDisk
	}
	var kills []kill
	created, renamed := false, 0
	r.d.Failing(func(op, file string) error {
		kills = append(kills, kill{fmt.Sprintf("%d: %s %q", len(kills), op, file), copyRuntimeDir(t, o), r.d.KillNow()})
		created = created || op == "create" && file == begun
		if created && op == fails {
			fails = ""
			return errIO
		}
		if op == "rename" && file == begun {
			renamed++
		}
		return nil
	})
	r.addAll(message.Edge, "gate", 20000)
	wait(500 * time.Millisecond)
	for range 3 { // what comes then is in files of its own
		wait(3 * time.Second)
		r.add(message.Edge, "door")
	}
	wait(3 * time.Second)
	r.d.Failing(nil)
	if renamed == 0 || fails != "" || len(kills) < 30 || len(r.d.Files("edges-1-", segmentExt)) < 2 {
		t.Errorf("renamed %d times, %d kills, files %q", renamed, len(kills), r.d.Files("", ""))
	}
	for _, k := range kills {
		after := o
		after.RuntimeDir, after.Clock = k.runtime, r.o.Clock
		var log strings.Builder
		after.Log = slog.New(slog.NewTextHandler(&log, nil))
		x := newRig(t, k.d, after)
		if told := x.takeFaults(); strings.Contains(told, "damaged") {
			t.Errorf("%s: %s: %s", k.what, told, x.detail)
		}
		if !strings.Contains(log.String(), "its risk file says what that cost") {
			t.Errorf("%s: %s", k.what, log.String())
		}
		if err := x.stopAndClose(); err != nil {
			t.Error(err)
		}
	}
	if err := r.stopAndClose(); err != nil {
		t.Error(err)
	}
}
