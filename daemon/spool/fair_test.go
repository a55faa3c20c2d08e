package spool

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// wire is a link of bounded speed, that takes records in virtual time: so many
// bytes or messages a second. What is on it is acknowledged when it has arrived.
type wire struct {
	bytes, messages int // a second; 0 is no bound
}

// takes is how long a record keeps the link busy.
func (w wire) takes(x Item) (d time.Duration) {
	if w.bytes > 0 {
		d = time.Duration(len(Encode("greenhouse", x.Record))+50) * time.Second / time.Duration(w.bytes)
	}
	if w.messages > 0 {
		d = max(d, time.Second/time.Duration(w.messages))
	}
	return d
}

// crowd is ten inputs at 1 kHz beside ten sensors at 1 Hz, an input with an edge
// every 3 s, and an order's answer every 5 s.
type crowd struct {
	r     *rig
	n     int                  // milliseconds that have passed
	since map[string]time.Time // when what is told apart by this was taken
	late  map[string]time.Duration
	count map[string]int
}

func newCrowd(r *rig) *crowd {
	return &crowd{r: r, since: map[string]time.Time{}, late: map[string]time.Duration{}, count: map[string]int{}}
}

// millisecond is what happens in one.
func (c *crowd) millisecond() {
	for i := range 10 {
		c.r.add(Edge, fmt.Sprintf("loose%d", i))
	}
	if c.n%100 == 0 && c.n%1000/100 < 10 {
		c.taken(Reading, fmt.Sprintf("air%d", c.n%1000/100))
	}
	if c.n%3000 == 1500 {
		c.taken(Edge, "door")
	}
	if c.n%5000 == 2500 {
		c.since[fmt.Sprint("answer", c.n)] = time.Now()
		c.r.put(Record{Kind: Answer, Sensor: fmt.Sprint("answer", c.n)})
	}
	c.n++
}

func (c *crowd) taken(k Kind, sensor string) {
	seq := c.r.add(k, sensor)
	c.since[fmt.Sprint(sensor, " ", c.r.s.RunNumber(), " ", seq)] = time.Now()
}

// arrived takes note of a record that has come.
func (c *crowd) arrived(x Item) {
	r := x.Record
	c.r.s.Ack(x.ID)
	key := fmt.Sprint(r.Sensor, " ", r.Run, " ", r.Seq)
	class := string(r.Kind)
	switch {
	case r.Kind == Answer:
		key = r.Sensor
	case r.Kind == Edge && r.Sensor != "door":
		class = "loose"
	}
	c.count[class]++
	if at, known := c.since[key]; known {
		c.late[class] = max(c.late[class], time.Since(at))
	}
}

// run has the crowd and the wire go on for so long.
func (c *crowd) run(w wire, seconds int) {
	var on Item
	busy := false
	until := time.Now()
	for range seconds * 1000 {
		c.millisecond()
		for !time.Now().Before(until) {
			if busy {
				c.arrived(on)
			}
			if on, busy = c.r.s.Next(); !busy {
				break
			}
			until = until.Add(w.takes(on))
			if until.Before(time.Now()) {
				until = time.Now()
			}
		}
		wait(time.Millisecond)
	}
}

// Ten inputs at 1 kHz do not hold up ten sensors at 1 Hz, nor an order's answer,
// nor the edge of a calm input: whether the link is slow or has AWS's pace. And
// they use what is left of it. So from memory, and from a backlog on disk, which
// they have filled.
func TestAFairShareOfTheLink(t *testing.T) {
	for name, w := range map[string]wire{"8 KiB/s": {bytes: 8 << 10}, "80 messages/s": {messages: 80}} {
		for _, behind := range []int{0, 60} {
			t.Run(fmt.Sprintf("%s, %d s behind", name, behind), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t, newMemDisk(), Options{AtRisk: 5 * time.Second}).start()
					c := newCrowd(r)
					for range behind * 1000 {
						c.millisecond()
						wait(time.Millisecond)
					}
					// What an outage left of a sensor goes before what is new of it, so
					// that is given time to go.
					c.run(w, behind*9/10)
					clear(c.late)
					clear(c.count)
					const seconds = 30
					c.run(w, seconds)
					st := r.s.Stats()
					t.Logf("latest: %v; arrived: %v; %d segments of edges", c.late, c.count, st.Edges.Segments)
					if c.late["answer"] > time.Second || c.late["edge"] > time.Second {
						t.Errorf("answers after %v, a calm input's edges after %v", c.late["answer"], c.late["edge"])
					}
					if n := c.count["reading"]; c.late["reading"] > 2*time.Second || n < 10*seconds-10 {
						t.Errorf("%d readings, after %v", n, c.late["reading"])
					}
					if c.count["loose"] < 15*seconds {
						t.Errorf("only %d of the edges of loose contacts", c.count["loose"])
					}
					if err := r.end(); err != nil {
						t.Error(err)
					}
				})
			})
		}
	}
}

// However many answers there are, every fourth record is another that waits.
func TestEventsDoNotShutOutTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: 5 * time.Second}).start()
		for range 12 {
			r.put(Record{Kind: Answer})
		}
		r.add(Reading, "air")
		r.add(Reading, "air")
		r.add(Edge, "door")
		r.want(r.take(all), ":0, :0, :0, door:1, :0, :0, :0, air:1, :0, :0, :0, air:2, :0, :0, :0")
		if err := r.end(); err != nil {
			t.Error(err)
		}
	})
}

// Each sensor and kind by itself keeps its order, from memory and from disk, and
// each has its turn whatever lies between its records in the files.
func TestFlowsKeepTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Options{AtRisk: time.Second}
		r := newRig(t, newMemDisk(), o).start()
		for i := range 20000 {
			r.add(Reading, "fast")
			r.add(Edge, "loose")
			if i%1000 == 0 {
				r.add(Reading, "slow")
				r.add(Edge, "door")
				wait(time.Second)
			}
		}
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		r = newRig(t, r.d, o).start()
		for range 10 {
			r.add(Reading, "slow")
			r.add(Edge, "door")
		}
		last := map[string]uint64{}
		at := map[string]int{}
		for i, x := range r.take(all) {
			n := x.Record
			if now := n.Run<<32 + n.Seq; now <= last[n.Sensor] {
				t.Fatalf("%s: %d of run %d came late", n.Sensor, n.Seq, n.Run)
			} else {
				last[n.Sensor], at[n.Sensor] = now, i
			}
		}
		if at["slow"] > 200 || at["door"] > 200 || at["fast"]+at["loose"] < 70000 {
			t.Errorf("the latest of each: %v", at)
		}
		for _, sensor := range []string{"slow", "door"} {
			if last[sensor] != 2<<32+10 {
				t.Errorf("%s ends with %d of run %d", sensor, last[sensor]&(1<<32-1), last[sensor]>>32)
			}
		}
		if err := r.end(); err != nil {
			t.Error(err)
		}
	})
}

// More gives what is of the sensor and kind that were given last, and charges it.
func TestMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: 5 * time.Second}).start()
		for range 4 {
			r.add(Edge, "loose")
			r.add(Edge, "door")
			r.add(Reading, "loose")
		}
		first := r.take(1)
		more, ok := r.s.More(first[0].ID)
		again, _ := r.s.More(more.ID)
		if r.want(append(first, more, again), "loose:1, loose:3, loose:5"); !ok {
			t.Error("there are no more")
		}
		if x, ok := r.s.More(first[0].ID); ok {
			t.Errorf("got %s after what was not the last", brief([]Item{x}))
		}
		var doors []string
		for _, x := range r.take(6) {
			doors = append(doors, x.Record.Sensor+string(x.Record.Kind))
		}
		if slices.Contains(doors, "looseedge") {
			t.Errorf("what went out of turn is not charged: %q", doors)
		}
		if err := r.end(); err != nil {
			t.Error(err)
		}
	})
}

// A spool that an earlier version left has its edges among the events. All of it
// comes, in order, and what that version noted to be given out counts as such.
func TestASpoolOfAnEarlierVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newMemDisk()
		leave := func(lane int, records ...Record) {
			g := &segment{lane: lane, run: 1, number: 1}
			b := g.header()
			for k, x := range records {
				x.Run = 1
				payload, err := appendRecord(nil, x)
				if err != nil {
					t.Fatal(err)
				}
				b = appendFrame(b, firstLive+uint64(k), payload)
			}
			d.put(g.file(), b)
		}
		leave(events, Record{Kind: Edge, Sensor: "door", Seq: 1}, Record{Kind: Answer}, Record{Kind: Edge, Sensor: "door", Seq: 3})
		leave(samples, Record{Kind: Reading, Sensor: "air", Seq: 1}, Record{Kind: Reading, Sensor: "soil", Seq: 1})
		var f frames
		old := func(lane byte, seq uint64) {
			f.add(binary.AppendUvarint(binary.AppendUvarint([]byte{'h', lane}, 1), seq))
		}
		old(events, firstLive+1)
		old(samples, firstLive+1)
		d.put(notesName, f.b)
		d.put(stateName, state{run: 1, stopped: true}.encode())
		r := newRig(t, d, Options{AtRisk: time.Second}).start()
		r.add(Edge, "door")
		for id, want := range map[uint64]bool{1: true, 2: false, 3: false} {
			if got := r.s.lanes[events].flow("").mayHaveCome(room(0).lo + id); got != want {
				t.Errorf("event %d may have come: %v", id, got)
			}
		}
		for sensor, want := range map[string]bool{"air": true, "soil": false} {
			if got := r.s.lanes[samples].flow(sensor).mayHaveCome(room(0).lo + map[string]uint64{"air": 1, "soil": 2}[sensor]); got != want {
				t.Errorf("reading of %s may have come: %v", sensor, got)
			}
		}
		items := r.take(all)
		r.want(items, "door:1, :0, door:3, door:1, air:1, soil:1")
		for _, x := range items {
			r.s.Ack(x.ID)
		}
		if err := r.end(); err != nil {
			t.Error(err)
		}
		if left := r.d.files("", segmentExt); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
	})
}
