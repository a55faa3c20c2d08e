package spool

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/durable"
	"fieldpost/daemon/message"
)

// tick is the entries of one reading of each of some sensors.
func tick(t *testing.T, run, seq uint64, sensors ...string) (out []Entry) {
	t.Helper()
	for _, sensor := range sensors {
		e, err := entryOf(message.Record{Kind: message.Reading, Sensor: sensor, Run: run, Seq: seq})
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

// countedWrites counts how often a risk file is written.
type countedWrites struct {
	riskStore
	n int
}

func (c *countedWrites) WriteAt(b []byte, at int64) (int, error) {
	c.n++
	return c.riskStore.WriteAt(b, at)
}

// What is appended at once is written to the risk file once, and a kill loses all of it or
// none.
func TestAppendAllWritesTheRiskFileOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := withRiskFile(t, "air", "soil", "door")
		counted := &countedWrites{riskStore: r.s.risks.file}
		r.s.risks.file = counted
		if err := r.s.AppendAll(tick(t, r.s.RunNumber(), 1, "air", "soil", "door")); err != nil {
			t.Fatal(err)
		}
		items := r.takeItems(all)
		r.want(items, "air:1, soil:1, door:1")
		if counted.n != 1 {
			t.Errorf("written %d times", counted.n)
		}
		r.ackAll(items)
		if counted.n != 2 { // nothing is at risk any more
			t.Errorf("written %d times after the acknowledgements", counted.n)
		}
		if err := r.s.AppendAll(tick(t, r.s.RunNumber(), 2, "air", "soil")); err != nil {
			t.Fatal(err)
		}
		next := r.killed(nil)
		next.want(next.takeItems(all), "gap air 1 after_seq=1 to_seq=2 reason=crash certain=false, gap soil 1 after_seq=1 to_seq=2 reason=crash certain=false")
	})
}

// Ready tells once, and Next returns all of what was appended at once or nothing of it.
func TestAppendAllIsOneStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ticks = 2000
		r := newRig(t, newMemDisk(), Options{AtRisk: time.Hour})
		sensors := []string{"air", "soil", "door"}
		var group sync.WaitGroup
		group.Go(func() {
			for seq := range uint64(ticks) {
				if err := r.s.AppendAll(tick(t, 1, seq+1, sensors...)); err != nil {
					t.Error(err)
				}
			}
		})
		for n := 0; n < ticks*len(sensors); {
			<-r.s.Ready()
			for x, ok := r.s.Next(); ok; x, ok = r.s.Next() {
				n++
				r.s.Ack(x.ID)
			}
			if n%len(sensors) != 0 {
				t.Fatalf("%d entries, and then none", n)
			}
		}
		group.Wait()
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

// What lingers leaves together; an edge among it has all of it leave at once.
func TestAppendAllLingers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := lingering(t)
		entries := tick(t, 1, 1, "air", "soil")
		if err := r.s.AppendAll(entries); err != nil {
			t.Fatal(err)
		}
		<-time.After(49 * time.Millisecond)
		if synctest.Wait(); r.told() {
			t.Error("told at once")
		}
		<-time.After(time.Millisecond)
		if synctest.Wait(); !r.told() {
			t.Error("not told after 50 ms")
		}
		edge, err := entryOf(message.Record{Kind: message.Edge, Sensor: "door", Run: 1, Seq: 1})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.s.AppendAll(append(tick(t, 1, 2, "air"), edge, tick(t, 1, 2, "soil")[0])); err != nil || !r.told() {
			t.Errorf("the edge waits: %v", err)
		}
		r.want(r.takeItems(all), "door:1, air:1, soil:1, air:2, soil:2")
		if <-time.After(time.Second); r.told() {
			t.Error("told twice")
		}
	})
}

// An entry that cannot be stored does not take the others along.
func TestAppendAllLeavesOutWhatCannotBeKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{})
		entries := tick(t, 1, 1, "air", "soil", "door", "rain")
		entries[1].Body = make([]byte, durable.MaxPayload)
		entries[3].Class = -1
		err := r.s.AppendAll(entries)
		for _, part := range []string{`entry of "soil": its 1310`, `are more than 131072`, `entry of "rain": there is no class -1`} {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%v does not have %s", err, part)
			}
		}
		if n := r.s.Stats(); n.Appended != 2 || n.Appends != 1 {
			t.Errorf("%d are counted in %d appends", n.Appended, n.Appends)
		}
		if err := r.stopAndClose(); err != nil {
			t.Fatal(err)
		}
		if err := r.s.AppendAll(tick(t, 1, 2, "air")); !errors.Is(err, ErrClosed) {
			t.Errorf("append after the end: %v", err)
		}
		again := newRig(t, r.d, Options{})
		again.want(again.takeItems(all), "air:1, door:1")
		if err := again.s.AppendAll(nil); err != nil {
			t.Error(err)
		}
	})
}

// A tick that is larger than memory keeps the bound, and a gap tells of what is dropped.
func TestAppendAllKeepsMemoryWithinItsBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newMemDisk()
		d.Failing(full)
		r := newRig(t, d, Options{Memory: leastMemory})
		var entries []Entry
		for seq := range uint64(20) {
			entries = append(entries, Entry{Class: Samples, Sensor: fmt.Sprint("s", seq%2), Run: r.s.RunNumber(), Seq: seq/2 + 1, Body: make([]byte, 100<<10)})
		}
		if err := r.s.AppendAll(entries); err != nil {
			t.Fatal(err)
		}
		if n := r.s.Stats(); n.Memory > leastMemory || n.Appended != 20 || n.Dropped == 0 {
			t.Errorf("%+v", n)
		}
	})
}
