package spool

import (
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

var errIO = syscall.EIO

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 99)) }

func TestEveryTruncationOfTheLastSegment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: time.Second}).start()
		for range 8 {
			r.add(message.Reading, "air")
		}
		wait(2 * time.Second)
		left := r.d.Kill()
		r.crash(left)
		const name = "samples-1-1.seg"
		whole := left.Data(name)
		frame := (len(whole) - headerSize) / 8
		for n := range len(whole) {
			for _, zeros := range []int{0, len(whole) - n} {
				d := left.Kill()
				d.Put(name, append(whole[:n:n], make([]byte, zeros)...))
				r := newRig(t, d, Options{AtRisk: time.Second})
				held := max(n-headerSize, 0) / frame
				want := []string{fmt.Sprintf("gap air 1 after_seq=%d reason=crash certain=false", held)}
				for seq := 1; seq <= held; seq++ {
					want = append(want, fmt.Sprintf("air:%d", seq))
				}
				got := brief(r.takeItems(all))
				if got != strings.Join(want, ", ") {
					t.Fatalf("cut at %d, %d zeros:\ngot  %s\nwant %s", n, zeros, got, strings.Join(want, ", "))
				}
				if told := r.takeFaults(); told != "" {
					t.Fatalf("cut at %d, %d zeros: a torn end is no damage: %s", n, zeros, told)
				}
				r.crash(d.Cut(newRand(uint64(n)))) // and none for the next run, whatever is left of this one
				again := newRig(t, d.Cut(newRand(uint64(n))), Options{AtRisk: time.Second})
				if again.takeItems(all); again.takeFaults() != "" {
					t.Fatalf("cut at %d, %d zeros: the torn end was taken for damage later", n, zeros)
				}
			}
		}
	})
}

func TestAPowerCutAfterAKillCostsNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: time.Hour}).start()
		for range 5 {
			r.add(message.Reading, "air")
		}
		wait(2 * time.Second) // written, not synced
		r = newRig(t, r.crash(r.d.Kill()), Options{AtRisk: time.Hour}).start()
		wait(time.Second)
		left := r.d.Kill()
		for _, f := range left.Names {
			f.B = f.B[:f.Good]
		}
		r = newRig(t, r.crash(left), Options{AtRisk: time.Hour})
		r.want(r.takeItems(all), "gap air 1 after_seq=5 reason=crash certain=false, air:1, air:2, air:3, air:4, air:5")
	})
}

func TestGapAfterACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: 4 * time.Second}).start()
		for range 3 {
			r.add(message.Reading, "air")
			r.add(message.Reading, "soil")
		}
		for _, x := range r.takeItems(all) {
			r.s.Ack(x.ID) // none ever touches the disk
		}
		wait(10 * time.Second) // but what sensors there are is known
		r.add(message.Edge, "door")
		r.add(message.Reading, "door")
		wait(10 * time.Second)
		r.add(message.Reading, "air")
		r.add(message.Edge, "door")
		r = newRig(t, r.crash(r.d.Kill()), Options{AtRisk: 4 * time.Second})
		r.want(r.takeItems(all), "gap air 1 after_seq=3 reason=crash certain=false, gap door 1 after_seq=1 reason=crash certain=false, "+
			"gap soil 1 after_seq=3 reason=crash certain=false, door:1, door:2")
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

func TestGapsOfACrashOutliveTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: time.Second}).start()
		r.add(message.Reading, "air")
		wait(3 * time.Second)
		rnd := newRand(5)
		for run := uint64(2); run < 12; run++ { // it never lives long enough to do anything
			r = newRig(t, r.crash(r.d.Cut(rnd)), Options{AtRisk: time.Second})
			if got := r.s.RunNumber(); got != run {
				t.Fatalf("run %d, want %d", got, run)
			}
		}
		r.want(r.takeItems(all), "gap air 1 after_seq=1 reason=crash certain=false, air:1")
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
		r = newRig(t, r.d, Options{AtRisk: time.Second})
		r.want(r.takeItems(all), "gap air 1 after_seq=1 reason=crash certain=false, air:1")
	})
}

// backlog makes a disk with three segments of samples of two sensors, one of
// edges, all synced and none acknowledged, as a good stop or a kill leaves it.
func backlog(t *testing.T, good bool) *memDisk {
	t.Helper()
	r := newRig(t, newMemDisk(), Options{AtRisk: time.Second}).start()
	r.add(message.Edge, "door")
	for range 5000 {
		r.add(message.Reading, "air")
		r.add(message.Reading, "soil")
	}
	wait(3 * time.Second)
	if got := r.d.Files("samples", segmentExt); len(got) < 3 {
		t.Fatalf("files: %q", got)
	}
	if !good {
		return r.crash(r.d.Kill())
	}
	if err := r.stopAndClose(); err != nil {
		t.Fatal(err)
	}
	return r.d
}

// checkAllTold checks that every record of the backlog is given or in a gap, and
// gives how many are not given.
func checkAllTold(t *testing.T, items []itemRecord) (missing int) {
	t.Helper()
	got := map[origin]map[uint64]bool{}
	gaps := map[origin][]loss{}
	for _, x := range items {
		r := x.Record
		o := origin{r.Sensor, r.Run}
		if r.Kind == message.Gap {
			gaps[o] = append(gaps[o], claim(r))
			continue
		}
		if got[o] == nil {
			got[o] = map[uint64]bool{}
		}
		if got[o][r.Seq] {
			t.Errorf("%v: %d came twice", o, r.Seq)
		}
		got[o][r.Seq] = true
	}
	for sensor, n := range map[string]uint64{"air": 5000, "soil": 5000} {
		o := origin{sensor, 1}
		for seq := uint64(1); seq <= n; seq++ {
			if got[o][seq] {
				continue
			}
			missing++
			if !told(gaps[o], seq) {
				t.Errorf("%v: nothing is known of %d; gaps %+v", o, seq, gaps[o])
			}
		}
	}
	return missing
}

func told(gaps []loss, seq uint64) bool {
	for _, g := range gaps {
		if seq >= g.lo && (g.open || seq <= g.hi) {
			return true
		}
	}
	return false
}

func TestUnreadableAtOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := backlog(t, true)
		d.Failing(func(op, name string) error {
			if op == "read" && strings.HasPrefix(name, "samples-1-1.") {
				return errIO
			}
			return nil
		})
		r := newRig(t, d, Options{AtRisk: time.Second})
		if missing := checkAllTold(t, r.takeItems(all)); missing == 0 || missing > 4600 {
			t.Errorf("%d lost", missing)
		}
		if r.takeFaults() != "spool_damaged raised" || len(d.Files("samples-1-1.", damagedExt)) != 1 {
			t.Errorf("files %q", d.Files("", ""))
		}
	})
}

// A sensor that is first seen while others are written down is written down
// next.
func TestSeenWhileOthersAreWrittenDown(t *testing.T) {
	for _, file := range []string{ackName, runName + durable.TmpExt, "samples"} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, newMemDisk(), Options{AtRisk: time.Second}).start()
			once := true
			r.d.Failing(func(op, name string) error {
				if op == "write" && strings.HasPrefix(name, file) && once {
					once = false
					r.add(message.Edge, "door")
				}
				return nil
			})
			r.add(message.Reading, "air")
			wait(time.Second)
			r.s.Ack(r.takeItems(1)[0].ID) // the edge: it never touches the disk
			wait(time.Minute)
			r.add(message.Edge, "door")
			r = newRig(t, r.crash(r.d.Kill()), Options{AtRisk: time.Second})
			r.want(r.takeItems(all), "gap air 1 after_seq=1 reason=crash certain=false, gap door 1 after_seq=1 reason=crash certain=false, air:1")
		})
	}
}
