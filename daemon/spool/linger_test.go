package spool

import (
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/message"
)

// lingering is a spool whose samples wait for 50 ms, with nothing to tell of.
func lingering(t *testing.T) *rig {
	r := newRig(t, newMemDisk(), Options{AtRisk: 5 * time.Second})
	r.s.SetLinger(50 * time.Millisecond)
	r.told()
	return r
}

// told reports whether Ready has told of something.
func (r *rig) told() bool {
	select {
	case <-r.s.Ready():
		return true
	default:
		return false
	}
}

// Ready tells once of the samples of 50 ms, when the first has waited for that long.
func TestLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := lingering(t)
		for range 3 {
			begun, wakes := time.Now(), 0
			for range 4 {
				r.add(message.Reading, "air")
				<-time.After(10 * time.Millisecond)
				if r.told() {
					t.Fatalf("told after %v", time.Since(begun))
				}
			}
			for time.Since(begun) < 200*time.Millisecond {
				<-time.After(10 * time.Millisecond)
				synctest.Wait()
				if r.told() {
					wakes++
					if since := time.Since(begun); since != 50*time.Millisecond {
						t.Errorf("told after %v", since)
					}
					r.takeItems(all)
				}
			}
			if wakes != 1 {
				t.Errorf("told %d times", wakes)
			}
		}
	})
}

// The first sample of a connection is told of at once, and those after it wait again.
func TestLingerOfTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := lingering(t)
		for range 2 {
			r.s.Rewind()
			r.told()
			r.add(message.Reading, "air")
			if !r.told() {
				t.Fatal("the first sample of a connection waits")
			}
			begun := time.Now()
			r.add(message.Reading, "air")
			if r.told() {
				t.Fatal("the second sample of a connection does not wait")
			}
			<-r.s.Ready()
			if since := time.Since(begun); since != 50*time.Millisecond {
				t.Errorf("the second sample is told of after %v", since)
			}
			r.takeItems(all)
		}
	})
}

// What is urgent is told at once, and so is what waited with it. Nothing is told again.
func TestLingerOfOthers(t *testing.T) {
	for name, r := range map[string]message.Record{
		"an edge":   {Kind: message.Edge, Sensor: "door"},
		"a fault":   {Kind: message.Fault, Sensor: "air"},
		"an answer": {Kind: message.Answer},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := lingering(t)
				x.add(message.Reading, "air")
				<-time.After(time.Millisecond)
				x.appendRecord(r)
				if !x.told() {
					t.Fatal("it waits")
				}
				if n := len(x.takeItems(all)); n != 2 {
					t.Errorf("%d items", n)
				}
				<-time.After(time.Second)
				synctest.Wait()
				if x.told() {
					t.Error("told again, of nothing")
				}
			})
		})
	}
}

// Whoever asks gets what waits, and is then not woken for it.
func TestLingerAndNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := lingering(t)
		r.add(message.Reading, "air")
		r.want(r.takeItems(all), "air:1")
		<-time.After(time.Second)
		synctest.Wait()
		if r.told() {
			t.Error("told of what was taken")
		}
		r.add(message.Reading, "air") // and the next one waits again
		<-time.After(49 * time.Millisecond)
		synctest.Wait()
		if r.told() {
			t.Error("told at once")
		}
		<-time.After(time.Millisecond)
		synctest.Wait()
		if !r.told() {
			t.Error("not told")
		}
	})
}

// Another time holds at once, and none ends the wait.
func TestSetLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := lingering(t)
		r.add(message.Reading, "air")
		r.s.SetLinger(0)
		if !r.told() {
			t.Error("still waits")
		}
		r.add(message.Reading, "air")
		if !r.told() {
			t.Error("waits although nothing is to")
		}
		r.s.SetLinger(time.Second)
		r.add(message.Reading, "air")
		<-time.After(999 * time.Millisecond)
		synctest.Wait()
		if r.told() {
			t.Error("told too early")
		}
		<-time.After(time.Millisecond)
		synctest.Wait()
		if !r.told() {
			t.Error("not told")
		}
	})
}

// A flush tells of what waits, and of nothing else.
func TestFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := lingering(t)
		r.s.Flush()
		if r.told() {
			t.Error("told of nothing")
		}
		r.add(message.Reading, "air")
		r.s.Flush()
		if !r.told() {
			t.Error("not told")
		}
		<-time.After(time.Second)
		synctest.Wait()
		if r.told() {
			t.Error("told again")
		}
	})
}

// A stop leaves nothing waiting, and what waited is on disk.
func TestStopEndsLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := lingering(t).start()
		r.add(message.Reading, "air")
		r.stopAndClose()
		next := newRig(t, r.d, Options{})
		next.want(next.takeItems(all), "air:1")
	})
}
