package spool

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/durable"
	"fieldpost/daemon/message"
	"fieldpost/sensors"
)

// wire is a link of bounded speed, that takes records in virtual time: so many
// bytes or messages a second. What is on it is acknowledged when it has arrived.
type wire struct {
	bytes, messages int // a second; 0 is no bound
}

// takes is how long a record keeps the link busy.
func (w wire) takes(x itemRecord) (d time.Duration) {
	if w.bytes > 0 {
		d = time.Duration(len(message.Encode("greenhouse", x.Record))+50) * time.Second / time.Duration(w.bytes)
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
	loose []Entry // the next of each of the ten inputs
}

func newCrowd(r *rig) *crowd {
	c := &crowd{r: r, since: map[string]time.Time{}, late: map[string]time.Duration{}, count: map[string]int{}}
	for _, sensor := range loose {
		e, err := entryOf(message.Record{Kind: message.Edge, Sensor: sensor, Run: r.s.RunNumber(), Fields: []sensors.Field{{Name: "v", Value: 1.0}}})
		if err != nil {
			r.t.Fatal(err)
		}
		c.loose = append(c.loose, e)
	}
	return c
}

// loose are the names of the ten inputs.
var loose = [10]string{"loose0", "loose1", "loose2", "loose3", "loose4", "loose5", "loose6", "loose7", "loose8", "loose9"}

// millisecond is what happens in one.
func (c *crowd) millisecond() {
	for k := range c.loose {
		e := &c.loose[k]
		e.Seq++
		e.Stamp = c.r.o.Clock.Now()
		c.r.seq[e.Sensor] = e.Seq
	}
	if err := c.r.s.AppendAll(c.loose); err != nil {
		c.r.t.Fatal(err)
	}
	if c.n%100 == 0 && c.n%1000/100 < 10 {
		c.taken(message.Reading, fmt.Sprintf("air%d", c.n%1000/100))
	}
	if c.n%3000 == 1500 {
		c.taken(message.Edge, "door")
	}
	if c.n%5000 == 2500 {
		c.since[fmt.Sprint("answer", c.n)] = time.Now()
		c.r.appendRecord(message.Record{Kind: message.Answer, Sensor: fmt.Sprint("answer", c.n)})
	}
	c.n++
}

func (c *crowd) taken(k message.Kind, sensor string) {
	seq := c.r.add(k, sensor)
	c.since[fmt.Sprint(sensor, " ", c.r.s.RunNumber(), " ", seq)] = time.Now()
}

// arrived takes note of a record that has come.
func (c *crowd) arrived(x itemRecord) {
	r := x.Record
	c.r.s.Ack(x.ID)
	if r.Kind == message.Edge && r.Sensor != "door" {
		c.count["loose"]++ // nobody asks when it was taken
		return
	}
	key := fmt.Sprint(r.Sensor, " ", r.Run, " ", r.Seq)
	class := string(r.Kind)
	if r.Kind == message.Answer {
		key = r.Sensor
	}
	c.count[class]++
	if at, known := c.since[key]; known {
		c.late[class] = max(c.late[class], time.Since(at))
	}
}

// run has the crowd and the wire go on for so long.
func (c *crowd) run(w wire, seconds int) {
	var on itemRecord
	busy := false
	until := time.Now()
	for range seconds * 1000 {
		c.millisecond()
		for !time.Now().Before(until) {
			if busy {
				c.arrived(on)
			}
			if on, busy = nextOf(c.r.s); !busy {
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
		for _, behind := range []int{0, 15} {
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
					c.run(w, 2*behind)
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
					if err := r.stopAndClose(); err != nil {
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
			r.appendRecord(message.Record{Kind: message.Answer})
		}
		r.add(message.Reading, "air")
		r.add(message.Reading, "air")
		r.add(message.Edge, "door")
		r.want(r.takeItems(all), ":0, :0, :0, door:1, :0, :0, :0, air:1, :0, :0, :0, air:2, :0, :0, :0")
		if err := r.stopAndClose(); err != nil {
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
			r.add(message.Reading, "fast")
			r.add(message.Edge, "loose")
			if i%1000 == 0 {
				r.add(message.Reading, "slow")
				r.add(message.Edge, "door")
				wait(time.Second)
			}
		}
		if err := r.stopAndClose(); err != nil {
			t.Fatal(err)
		}
		r = newRig(t, r.d, o).start()
		for range 10 {
			r.add(message.Reading, "slow")
			r.add(message.Edge, "door")
		}
		last := map[string]uint64{}
		at := map[string]int{}
		for i, x := range r.takeItems(all) {
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
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

// More gives what is of the sensor and kind that were given last, and charges it.
func TestMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: 5 * time.Second}).start()
		for range 4 {
			r.add(message.Edge, "loose")
			r.add(message.Edge, "door")
			r.add(message.Reading, "loose")
		}
		first := r.takeItems(1)
		more, ok := moreOf(r.s, first[0].ID)
		again, _ := moreOf(r.s, more.ID)
		if r.want(append(first, more, again), "loose:1, loose:3, loose:5"); !ok {
			t.Error("there are no more")
		}
		if x, ok := moreOf(r.s, first[0].ID); ok {
			t.Errorf("got %s after what was not the last", brief([]itemRecord{x}))
		}
		var doors []string
		for _, x := range r.takeItems(6) {
			doors = append(doors, x.Record.Sensor+string(x.Record.Kind))
		}
		if slices.Contains(doors, "looseedge") {
			t.Errorf("what went out of turn is not charged: %q", doors)
		}
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

// In an outage that is much longer than the bound of the disk allows for, ten
// loose contacts push out nobody: all readings, a calm input's edges and all
// answers are kept, and come at once when the link is back. Of the loose contacts
// the newest are kept, and gaps tell of the rest.
func TestAFairShareOfTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: 5 * time.Second, MaxBytes: 1 << 20}).start()
		c := newCrowd(r)
		const seconds = 60
		for range seconds * 1000 {
			c.millisecond()
			wait(time.Millisecond)
			if c.n%1000 == 0 {
				if use := diskUse(r.d); use > 1<<20 {
					t.Fatalf("%d bytes on disk", use)
				}
			}
		}
		st := r.s.Stats()
		if st.Dropped < 500000 {
			t.Errorf("only %d dropped", st.Dropped)
		}
		began := time.Now()
		lost := map[string][]loss{}
		got := map[string]*ids{}
		for busy := true; busy; {
			var x itemRecord
			if x, busy = r.next(); busy {
				wait(wire{bytes: 8 << 10}.takes(x))
				c.arrived(x)
				n := x.Record
				switch {
				case n.Kind == message.Gap:
					lost[n.Sensor] = append(lost[n.Sensor], claim(n))
				case n.Seq > 0:
					if got[n.Sensor] == nil {
						got[n.Sensor] = &ids{}
					}
					got[n.Sensor].add(n.Seq, n.Seq+1)
				case n.Kind == message.Answer && time.Since(began) > 3*time.Second:
					t.Errorf("an answer after %v", time.Since(began))
				}
			}
		}
		if c.count["reading"] != 10*seconds || c.count["edge"] != seconds/3 || c.count["answer"] != seconds/5 {
			t.Errorf("arrived: %v", c.count)
		}
		for sensor, n := range r.seq {
			checkShare(t, sensor, n, got[sensor], lost[sensor])
		}
		t.Logf("of %d edges of loose contacts %d were kept; %d gaps", 10*seconds*1000, c.count["loose"], c.count["gap"])
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

// checkShare checks that all n of a sensor have come or lie in a gap that is
// certain, and that only loose contacts have gaps.
func checkShare(t *testing.T, sensor string, n uint64, got *ids, lost []loss) {
	t.Helper()
	for _, x := range lost {
		if sensor[:5] != "loose" || x.uncertain || len(got.within(x.lo, x.hi+1)) > 0 {
			t.Errorf("gap %+v of %s", x, sensor)
		}
		got.add(x.lo, x.hi+1)
	}
	if all := (ids{spans: []span{{1, n + 1}}}); fmt.Sprint(got.spans) != fmt.Sprint(all.spans) {
		t.Errorf("%s: %v of %v", sensor, got.spans, all.spans)
	}
}

// What is dropped is rewritten but for what others have in it: that costs at
// most as many bytes once more as were appended, and far less where few have too
// much. Nor do many small files remain.
func TestWhatKeepingAShareWrites(t *testing.T) {
	for _, c := range []struct {
		name    string
		sensors int // all alike, but for the first, which has so many times as much
		times   int
		most    float64 // so much is written, of what was appended
	}{
		{"all alike", 20, 1, 1.05},
		{"one of 2 has 200 times as much", 2, 200, 1.05},
		{"one of 20 has 100 times as much", 20, 100, 1.45},
		{"one of 20 has 5 times as much", 20, 5, 1.75},
		{"one of 100 has 10 times as much", 100, 10, 1.15},
	} {
		for _, size := range []int64{1 << 20, 8 << 20} {
			t.Run(fmt.Sprintf("%s, %d MiB", c.name, size>>20), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t, newMemDisk(), Options{AtRisk: 5 * time.Second, MaxBytes: size}).start()
					// The larger spool has as many records, each of them larger.
					record := int64(60)
					if size > 1<<20 {
						record = size >> 20 * record
						r.pad = map[string]string{}
						for k := range c.sensors {
							r.pad[fmt.Sprint("s", k)] = strings.Repeat("x", int(record-60-6))
						}
					}
					for round := 0; r.s.Stats().Appended < uint64(size*15/4/record); round++ {
						for range c.times {
							r.add(message.Reading, "s0")
						}
						for k := range c.sensors - 1 {
							r.add(message.Reading, fmt.Sprint("s", k+1))
						}
						wait(time.Second)
						if round%100 == 0 && diskUse(r.d) > size {
							t.Fatalf("%d bytes on disk", diskUse(r.d))
						}
					}
					appended, st := r.appended(), r.s.Stats()
					share := float64(r.d.Written) / float64(appended)
					t.Logf("%.2f times what was appended was written; %d segments of %d bytes; %d dropped", share, st.Samples.Segments, st.Samples.Bytes, st.Dropped)
					if share > c.most {
						t.Errorf("%.2f times what was appended was written", share)
					}
					if n := int64(st.Samples.Segments); n > 2*size/segmentSize+12 {
						t.Errorf("%d files", n)
					}
					least, n := r.least()
					// Whoever has less than its share has all, as far as whole files allow.
					if fair := int(size/4*3/int64(c.sensors)/record) / 2; n < fair && n < int(r.seq[least]) {
						t.Errorf("%s has %d of %d, which is less than %d", least, n, r.seq[least], fair)
					}
					if err := r.stopAndClose(); err != nil {
						t.Error(err)
					}
				})
			})
		}
	}
}

// appended is how many bytes of frames the readings took that were put in.
func (r *rig) appended() (sum int64) {
	for sensor, n := range r.seq {
		for seq := uint64(1); seq <= n; seq *= 128 { // each takes another byte for the count
			x := message.Record{Kind: message.Reading, Sensor: sensor, Run: 1, Seq: seq, Stamp: r.o.Clock.Now(), Fields: []sensors.Field{{Name: "v", Value: 1.0}}}
			if pad := r.pad[sensor]; pad != "" {
				x.Fields = append(x.Fields, sensors.Field{Name: "pad", Value: pad})
			}
			sum += durable.FrameLen(formOf(r.t, x)) * int64(min(n, 128*seq-1)-seq+1)
		}
	}
	return sum
}

// least takes all and gives the sensor of which the fewest readings are left.
func (r *rig) least() (least string, left int) {
	n := map[string]int{}
	for _, x := range r.takeItems(all) {
		if x.Record.Kind == message.Reading {
			n[x.Record.Sensor]++
		}
	}
	for sensor := range r.seq {
		if least == "" || n[sensor] < n[least] {
			least = sensor
		}
	}
	return least, n[least]
}

// A crash while small files become one leaves nothing twice and loses nothing but
// what was at risk, at whichever touch of the disk it comes.
func TestACrashWhileFilesBecomeOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Options{AtRisk: time.Second, MaxBytes: 1 << 20, Sensors: []string{"fast", "slow"}}
		r := newRig(t, newMemDisk(), o).start()
		r.pad = map[string]string{"fast": strings.Repeat("x", 540)} // so there are few records to read each time
		var crashes []instant
		safe, rnd := uint64(0), newRand(7)
		var safes []uint64
		r.d.Failing(func(op, file string) error {
			if r.s.Stats().Dropped > 0 && len(crashes) < 600 {
				what := fmt.Sprintf("%s %q", op, file)
				if len(crashes)%2 == 0 {
					crashes = append(crashes, instant{"kill at " + what, r.d.KillNow(), nil})
				} else {
					crashes = append(crashes, instant{"power cut at " + what, r.d.CutNow(rnd), nil})
				}
				safes = append(safes, safe)
			}
			return nil
		})
		for len(crashes) < 600 {
			slow := r.seq["slow"]
			r.add(message.Reading, "slow")
			for range 40 {
				r.add(message.Reading, "fast")
			}
			wait(2 * time.Second)
			safe = slow + 1
		}
		joined := 0
		for _, c := range crashes {
			for at := (durable.Scan(c.d.Data(ackName), 0)); at.Next(); {
				if at.Payload[0] == 'x' {
					joined++
				}
			}
		}
		if joined < 20 {
			t.Errorf("files became one in %d records only", joined)
		}
		for k, c := range crashes {
			x := newRig(t, c.d, o)
			if told := x.takeFaults(); told != "" {
				t.Errorf("%s: %s", c.what, told)
			}
			x.checkOnceEach(c.what, safes[k])
			_ = x.stopAndClose() // all that matters is in the next
		}
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

// A flood of answers, as many malformed orders bring, leaves five sensors at 1 Hz
// their time, on a link that takes fewer messages than there are answers.
func TestAFloodOfAnswersLeavesReadingsTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: 5 * time.Second}).start()
		c := newCrowd(r)
		until := time.Now()
		const seconds = 60
		for n := range seconds * 300 {
			if n%2 == 0 { // 150 a second
				r.appendRecord(message.Record{Kind: message.Answer})
			}
			if n%60 == 0 {
				c.taken(message.Reading, fmt.Sprint("air", n/60%5))
			}
			for ; !time.Now().Before(until); until = until.Add(time.Second / 100) {
				if x, ok := nextOf(r.s); ok {
					c.arrived(x)
				}
			}
			wait(time.Second / 300)
		}
		t.Logf("latest: %v; arrived: %v", c.late, c.count)
		if c.late["reading"] > 100*time.Millisecond || c.count["reading"] < 5*seconds-1 || c.count["answer"] < 90*seconds {
			t.Errorf("latest: %v; arrived: %v", c.late, c.count)
		}
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

// checkOnceEach checks that nothing comes twice, and that all of the slow sensor
// comes that was safe.
func (r *rig) checkOnceEach(what string, safe uint64) {
	r.t.Helper()
	there := map[name]bool{}
	for _, i := range r.takeItems(all) {
		if n := i.Record; n.Kind != message.Gap {
			key := name{n.Sensor, n.Run, n.Seq}
			if there[key] {
				r.t.Fatalf("%s: %+v comes twice", what, key)
			}
			there[key] = true
		}
	}
	for seq := uint64(1); seq <= safe; seq++ {
		if !there[name{"slow", 1, seq}] {
			r.t.Fatalf("%s: %d of %d is missing", what, seq, safe)
		}
	}
}

// Where the disk itself has no room for the new file, whole files go.
func TestNoRoomToKeepAShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: time.Second, MaxBytes: 1 << 20}).start()
		r.d.Failing(func(op, name string) error {
			if op == "create" && strings.HasSuffix(name, segmentExt+durable.TmpExt) {
				return syscall.ENOSPC
			}
			return nil
		})
		for range 100 {
			r.add(message.Reading, "slow")
			for range 400 {
				r.add(message.Reading, "fast")
			}
			wait(2 * time.Second)
			if use := diskUse(r.d); use > 1<<20 {
				t.Fatalf("%d bytes on disk", use)
			}
		}
		if st, told := r.s.Stats(), r.takeFaults(); !st.Disk || st.Dropped < 20000 || told != "spool_full raised" {
			t.Errorf("faults %q, %+v", told, st)
		}
		there, lost := map[string]*ids{"slow": {}, "fast": {}}, map[string][]loss{}
		for _, x := range r.takeItems(all) {
			if n := x.Record; n.Kind == message.Gap {
				lost[n.Sensor] = append(lost[n.Sensor], claim(n))
			} else {
				there[n.Sensor].add(n.Seq, n.Seq+1)
			}
		}
		for sensor, n := range r.seq {
			for seq := uint64(1); seq <= n; seq++ {
				if there[sensor].has(seq) == told(lost[sensor], seq) {
					t.Fatalf("%s %d: there and told %v", sensor, seq, there[sensor].has(seq))
				}
			}
		}
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}
