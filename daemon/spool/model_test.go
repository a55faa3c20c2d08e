package spool

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/message"
)

// name is what tells records apart.
type name struct {
	sensor   string
	run, seq uint64
}

// fate is what the model knows of one record.
type fate struct {
	at      time.Time
	kind    message.Kind
	acked   bool
	ackedIn int  // the crash count when it was acknowledged
	refused bool // by us
	given   bool // Next has given it, in whichever run
}

// model is a plain account of what was put into spools and came out again.
type model struct {
	t            *testing.T
	rnd          *rand.Rand
	o            Options
	d            *memDisk
	r            *rig
	fates        map[name]*fate
	gaps         map[origin][]loss // told and acknowledged
	sure         map[origin][]loss // those that are certain, since the latest crash or damage
	far          map[string]uint64 // how far each sensor's readings or edges of a run have been given
	blank        bool              // what was given up may be back: the acks were damaged, or not written while the disk failed
	crashes      int               // and damage: after each, what was done may come again
	failed       bool              // the disk failed in this run
	damagedSpool bool              // a file was damaged
	given        []itemRecord
	log          []string

	harm
}

func (m *model) note(format string, args ...any) {
	m.log = append(m.log, fmt.Sprintf(format, args...))
}

func (m *model) fatalf(format string, args ...any) {
	m.t.Helper()
	m.learn()
	m.t.Errorf("%s\nafter %q", fmt.Sprintf(format, args...), m.log)
	m.r.crash(nil) // so that the other seeds run too
	m.t.FailNow()
}

// calmest is a sensor that has far less than its share of the room.
const calmest = "calm"

// open starts a run; every sensor is seen, so that a crash knows of it.
func (m *model) open() {
	m.d.Failing(m.fail)
	m.failed, m.spoiled, m.given = false, false, nil
	m.set(m.diskFull && m.spoils, m.bad)
	m.r = newRig(m.t, m.d, m.o).start()
	for _, s := range []string{"air", "soil", "door", calmest} {
		m.add(message.Reading, s)
	}
	m.add(message.Edge, "door")
	wait(6 * time.Second)
	m.note("open run %d", m.r.s.RunNumber())
}

func (m *model) add(k message.Kind, sensor string) {
	seq := m.r.add(k, sensor)
	m.fates[name{sensor, m.r.s.RunNumber(), seq}] = &fate{at: time.Now(), kind: k}
}

// see checks what Next gave.
func (m *model) see(items []itemRecord) {
	m.learn()
	last := map[string]name{}
	for _, x := range items {
		r := x.Record
		if r.Kind == message.Gap {
			m.sent(r)
			continue
		}
		n := name{r.Sensor, r.Run, r.Seq}
		f := m.fates[n]
		if f == nil || f.kind != r.Kind || r.Fields[0].Value != float64(r.Seq) {
			m.fatalf("%+v was never put in", r)
		}
		// Without the acks nobody knows that of two files one stands for the other.
		// What is refused while it cannot be read is still owed.
		if (f.acked || f.refused && !m.spoils) && f.ackedIn == m.crashes && !m.blank {
			m.fatalf("%+v came again after it was done", n)
		}
		log := r.Sensor + classNames[classOf(r.Kind)]
		if before, ok := last[log]; ok && (before.run > n.run || before.run == n.run && before.seq >= n.seq) && m.crashes == 0 {
			m.fatalf("%+v after %+v", n, before)
		}
		last[log] = n
		m.first(n, f)
	}
}

// first takes note that a record is given, and checks that those that are given
// for the first time come in order, whatever crash lies between.
func (m *model) first(n name, f *fate) {
	k := fmt.Sprint(n.sensor, n.run, f.kind)
	if !f.given && n.seq < m.far[k] && !m.blank {
		m.fatalf("%+v is given for the first time after %d", n, m.far[k])
	}
	f.given = true
	m.far[k] = max(m.far[k], n.seq)
}

// sent checks that a gap that is certain claims nothing that Next has given, in
// whichever run: the broker may have that, and only its acknowledgement, or the
// note of it, be lost. But for what we refused, and for what is given once more
// because the note that it is given up is lost.
func (m *model) sent(gap message.Record) {
	o, x := origin{gap.Sensor, gap.Run}, claim(gap)
	if gap.Sensor == calmest && reasonOf(gap) == reasonFull && !m.damagedSpool {
		m.fatalf("gap %+v of %+v, who never had its share", x, o)
	}
	if x.uncertain || m.blank {
		return
	}
	for seq := x.lo; seq <= x.hi; seq++ {
		if f := m.fates[name{o.sensor, o.run, seq}]; f != nil && f.given && !f.refused {
			m.fatalf("gap %+v of %+v claims %d, which was given", x, o, seq)
		}
	}
}

func (m *model) takeItems(n int) {
	items := m.r.takeItems(n)
	m.see(items)
	m.given = append(m.given, items...)
}

// ack acknowledges, or once in a while refuses, some of what was given.
func (m *model) ack(share int) {
	var rest []itemRecord
	for _, x := range m.given {
		switch k := m.rnd.IntN(100); {
		case k == 99 && share < 100 && x.Record.Kind == message.Reading:
			f := m.fate(x)
			f.refused, f.ackedIn = true, m.crashes
			m.r.s.Refuse(x.ID, "no")
			synctest.Wait() // until then it is owed
		case k < share:
			m.r.s.Ack(x.ID)
			m.acked(x.Record)
		default:
			rest = append(rest, x)
		}
	}
	m.given = rest
}

func (m *model) fate(x itemRecord) *fate {
	return m.fates[name{x.Record.Sensor, x.Record.Run, x.Record.Seq}]
}

// acked takes in an acknowledgement, of what may have been dropped meanwhile.
// No certain gap may claim it, whichever of the two is acknowledged first.
func (m *model) acked(r message.Record) {
	m.learn()
	o := origin{r.Sensor, r.Run}
	if r.Kind != message.Gap {
		f := m.fates[name{r.Sensor, r.Run, r.Seq}]
		f.acked, f.ackedIn = true, m.crashes
		for _, x := range m.sure[o] {
			if !f.refused && x.lo <= r.Seq && r.Seq <= x.hi {
				m.fatalf("gap %+v of %+v claims %d, which is acknowledged now", x, o, r.Seq)
			}
		}
		return
	}
	x := claim(r)
	m.gaps[o] = append(m.gaps[o], x)
	if x.uncertain {
		return
	}
	if !m.blank {
		m.sure[o] = append(m.sure[o], x)
	}
	for seq := x.lo; seq <= x.hi; seq++ {
		if f := m.fates[name{o.sensor, o.run, seq}]; f == nil || f.acked && !f.refused && f.ackedIn == m.crashes && !(m.blank && m.spoils) {
			m.fatalf("gap %+v of %+v claims %d, which is not missing", x, o, seq)
		}
	}
}

func (m *model) stop() {
	m.set(false, m.bad)
	if m.spoils {
		m.recovers()
	}
	if err := m.r.stopAndClose(); err != nil {
		m.fatalf("end: %v", err)
	}
	m.note("stop")
	m.damage()
	m.open()
	m.flood()
}

// flood has what earlier runs left dropped, once in a while.
func (m *model) flood() {
	if m.rnd.IntN(3) > 0 {
		return
	}
	m.note("flood")
	for range 5 + m.rnd.IntN(12) {
		m.add(message.Reading, "big")
		wait(time.Second)
	}
}

func (m *model) step() {
	switch k := m.rnd.IntN(100); {
	case k < 40:
		n := 1 + m.rnd.IntN(5)
		if m.rnd.IntN(40) == 0 {
			n = 8000
		}
		m.note("add %d", n)
		if m.rnd.IntN(3) == 0 {
			m.add([]message.Kind{message.Reading, message.Edge}[m.rnd.IntN(2)], calmest)
		}
		for range n {
			m.add(message.Reading, []string{"air", "soil", "door"}[m.rnd.IntN(3)])
			if m.rnd.IntN(4) == 0 {
				m.add(message.Edge, "door")
			}
		}
	case k < 60:
		m.takeItems(1 + m.rnd.IntN(20))
	case k < 75:
		m.ack(20 + m.rnd.IntN(70))
	case k < 80:
		m.note("rewind")
		m.r.s.Rewind()
		m.given = nil
	case k < 94:
		d := time.Duration(m.rnd.IntN(2500)) * time.Millisecond
		m.note("wait %v", d)
		if m.spoils {
			m.aimAtAFile()
		}
		wait(d)
	case k < 95:
		m.note("disk fails")
		m.set(true, m.bad)
	case k < 96:
		m.note("disk works")
		m.set(false, badFile{})
	case k < 97:
		m.stop()
	default:
		m.crash(k == 99)
		m.flood()
	}
}

// check drains the spool and settles the account.
func (m *model) check() {
	m.stop()
	m.r.s.Rewind()
	items := m.drain()
	m.see(items)
	m.given = append(m.given, items...)
	m.ack(100)
	for n, f := range m.fates {
		if o := (origin{n.sensor, n.run}); !f.acked && !told(m.gaps[o], n.seq) {
			m.fatalf("%+v (%+v) is neither delivered nor told: %+v", n, *f, m.gaps[o])
		}
	}
	if st := m.r.s.Stats(); st.Samples.Pending+st.Events.Pending != 0 {
		m.fatalf("still owed: %+v", st)
	}
	m.set(false, badFile{})
	if err := m.r.stopAndClose(); err != nil {
		m.t.Fatal(err)
	}
	m.r.stop = nil
	if left := m.d.Files("", segmentExt); len(left) != 0 {
		m.fatalf("all is acknowledged and stopped, but there are %q", left)
	}
}

// TestModel puts spools through random lives and checks that every record is
// delivered or told of, that nothing comes that was not put in, and that a
// crash costs no more than it may.
func TestModel(t *testing.T) { runModels(t, 0, false, false) }

// The same holds of spools that note what is at risk. A kill loses nothing that is not told,
// and no gap that is certain claims what was given.
func TestModelWithARiskFile(t *testing.T) { runModels(t, 1000, true, false) }

func runModels(t *testing.T, first uint64, runtimeDir, spoils bool) {
	seeds := uint64(40)
	if testing.Short() {
		seeds = 10
	}
	if spoils {
		seeds /= 2
	} else if runtimeDir {
		seeds /= 5
	}
	if x := os.Getenv("FIELDPOST_MODEL_SEEDS"); x != "" { // for a search by hand: "5000+300" is 300 seeds from 5000 on
		if _, err := fmt.Sscanf(x, "%d+%d", &first, &seeds); err != nil {
			t.Fatal(err)
		}
	}
	for seed := first; seed < first+seeds; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rnd := newRand(seed)
				m := &model{
					t: t, rnd: rnd, d: newMemDisk(), harm: harm{spoils: spoils, rnd: newRand(seed + 1)}, fates: map[name]*fate{}, gaps: map[origin][]loss{}, sure: map[origin][]loss{}, far: map[string]uint64{},
					o: Options{AtRisk: []time.Duration{0, time.Second, 5 * time.Second}[rnd.IntN(3)], MaxBytes: 1 << 20, Memory: 512 << 10},
				}
				if runtimeDir {
					m.o.RuntimeDir = memoryDir(t)
				}
				if spoils {
					m.chooseVictim()
				}
				m.open()
				for range 150 {
					m.step()
				}
				m.check()
			})
		})
	}
}

// forget takes note that what was done may come again.
func (m *model) forget() {
	m.crashes++
	clear(m.sure)
}

// damage damages one file while nobody uses it, once in a while.
func (m *model) damage() bool {
	files := m.victims(m.d.Files("", ""))
	if m.rnd.IntN(4) > 0 || len(files) == 0 {
		return false
	}
	name := files[m.rnd.IntN(len(files))]
	b := m.d.Data(name)
	at := m.rnd.IntN(len(b) + 1)
	switch k := m.rnd.IntN(4); {
	case k == 0:
		_ = m.d.Remove(name)
	case k == 1:
		m.d.Put(name, b[:at])
	case k == 2:
		clear(b[at:])
		m.d.Put(name, b)
	case at < len(b):
		b[at] ^= 1 << m.rnd.IntN(8)
		m.d.Put(name, b)
	}
	m.forget()
	m.damagedSpool = true
	m.blank = m.blank || name == ackName
	m.note("damage %s at %d", name, at)
	return true
}

// crash ends the run badly, and checks that no more is missing than may be.
func (m *model) crash(power bool) {
	if m.o.RuntimeDir != "" {
		synctest.Wait() // its files are copied one by one, and the writer may be changing them
	}
	left, window := m.d.Kill(), m.r.s.writer.o.writeDelay()
	if power {
		left, window = m.d.Cut(m.rnd), m.o.AtRisk
	}
	runtimeDir := copyRuntimeDir(m.t, m.o) // which is right after a power cut too
	m.d = m.r.crash(left)
	m.o.RuntimeDir = runtimeDir
	m.learn()
	m.forget()
	m.blank = m.blank || m.failed && (power || m.spoiled)
	now, failed := time.Now(), m.failed || m.spoiled || m.r.s.Stats().Dropped > 0
	m.note("crash, power %v", power)
	run := m.r.s.RunNumber()
	if !m.spoiled { // what was written once more and not synced, nobody misses if it goes before the next start
		failed = m.damage() || failed
	}
	m.open()
	m.learn()
	failed = failed || m.spoiled
	if m.rnd.IntN(2) == 0 {
		return // so that nothing is given
	}
	items := m.drain()
	m.see(items)
	m.r.s.Rewind()
	there := map[name]bool{}
	gaps, full := map[origin][]loss{}, map[origin][]loss{}
	for _, x := range items {
		r := x.Record
		if r.Kind == message.Gap {
			o := origin{r.Sensor, r.Run}
			gaps[o] = append(gaps[o], claim(r))
			if r.Field("reason") == reasonFull { // what the crash had left the next run may drop
				full[o] = append(full[o], claim(r))
			}
		}
		there[name{r.Sensor, r.Run, r.Seq}] = true
	}
	for n, f := range m.fates {
		o := origin{n.sensor, n.run}
		if f.acked || f.refused || there[n] || told(m.gaps[o], n.seq) {
			continue
		}
		if now.Sub(f.at) > window && n.run == run && !failed && !told(full[o], n.seq) {
			m.fatalf("%+v was put in %v before the crash and is gone", n, now.Sub(f.at))
		}
		if !told(gaps[o], n.seq) {
			m.fatalf("%+v is gone and no gap tells it: %+v", n, gaps[o])
		}
	}
}
