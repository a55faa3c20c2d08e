package spool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/durable/durabletest"
	"fieldpost/daemon/health"
	"fieldpost/daemon/message"
	"fieldpost/sensors"
)

// rig is a spool on a disk in memory, with its writer where it runs.
type rig struct {
	t    *testing.T
	d    *memDisk
	o    Options
	s    *Spool
	stop context.CancelFunc
	done chan error
	seq  map[string]uint64
	pad  map[string]string // what makes a sensor's records larger

	cancel context.CancelFunc // of what a test waits for

	mu     sync.Mutex
	faults []string
	detail string // of the latest that was raised
}

// memoryDir makes a directory in a file system in memory, as /run is one, where there is one.
func memoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "fieldpost-spool-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// newRig opens a spool on d.
func newRig(t *testing.T, d *memDisk, o Options) *rig { return newRigOn(t, d, d, o) }

// newRigOn opens a spool on d by way of another disk.
func newRigOn(t *testing.T, d *memDisk, via disk, o Options) *rig {
	t.Helper()
	r := &rig{t: t, d: d, o: o, seq: map[string]uint64{}}
	r.o.Dir = "memory"
	r.o.RefusedLine = func(x Item, reason string, at time.Time) ([]byte, error) {
		m, err := recordOf(x)
		if err != nil {
			return nil, err
		}
		return message.Refused(reason, at, m.Record)
	}
	if r.o.Clock == nil {
		r.o.Clock = clock.Fake()
	}
	r.o.Health = health.New(func(c health.Change) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.faults = append(r.faults, fmt.Sprintf("%s %s", c.Fault.Code, c.State()))
		if c.Raised {
			r.detail = c.Detail
		}
	})
	s, err := open(r.o, via)
	if err != nil {
		t.Fatal(err)
	}
	r.s = s
	return r
}

// start runs the writer.
func (r *rig) start() *rig {
	ctx, cancel := context.WithCancel(context.Background())
	r.stop, r.done = cancel, make(chan error, 1)
	go func() { r.done <- r.s.Run(ctx) }()
	synctest.Wait()
	return r
}

// stopAndClose stops the writer and closes the spool.
func (r *rig) stopAndClose() error {
	var err error
	if r.stop != nil {
		r.stop()
		err = <-r.done
	}
	return errors.Join(err, r.s.Close())
}

// crash takes the disk away from the writer, ends that, and gives the disk
// that the crash left.
func (r *rig) crash(left *memDisk) *memDisk {
	r.d.Failing(func(string, string) error { return syscall.EIO })
	_ = r.stopAndClose() // it cannot end well
	return left
}

func (r *rig) takeFaults() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := strings.Join(r.faults, ", ")
	r.faults = nil
	return out
}

// add appends the sensor's next record and gives its count.
func (r *rig) add(kind message.Kind, sensor string) uint64 { // no Helper: that takes as long as the rest
	r.mu.Lock() // a failing disk may call it from the writer
	r.seq[sensor]++
	n := r.seq[sensor]
	r.mu.Unlock()
	r.appendRecord(message.Record{Kind: kind, Sensor: sensor, Run: r.s.RunNumber(), Seq: n})
	return n
}

func (r *rig) appendRecord(x message.Record) {
	x.Stamp = r.o.Clock.Now()
	if x.Fields == nil {
		x.Fields = []sensors.Field{{Name: "v", Value: float64(x.Seq)}}
	}
	if x.Sensor == "big" {
		x.Fields = append(x.Fields, sensors.Field{Name: "pad", Value: strings.Repeat("x", 80<<10)})
	}
	if pad := r.pad[x.Sensor]; pad != "" {
		x.Fields = append(x.Fields, sensors.Field{Name: "pad", Value: pad})
	}
	if err := appendTo(r.s, x); err != nil {
		r.t.Fatal(err)
	}
}

// itemRecord is an item with its record, as package records gives it.
type itemRecord struct {
	ID     uint64
	Record message.Record
}

func recordOf(x Item) (itemRecord, error) {
	from := message.Source(x.Source)
	if x.Gap != nil {
		return itemRecord{x.ID, message.NewGap(x.Sensor, x.Run, x.Stamp, from, message.Loss(*x.Gap))}, nil
	}
	kind, fields, err := message.DecodeBody(x.Body)
	return itemRecord{x.ID, message.Record{Kind: kind, Sensor: x.Sensor, Run: x.Run, Seq: x.Seq, Stamp: x.Stamp, Fields: fields, Source: from}}, err
}

func nextOf(s *Spool) (itemRecord, bool) {
	for {
		x, ok := s.Next()
		if !ok {
			return itemRecord{}, false
		}
		if m, err := recordOf(x); err == nil {
			return m, true
		}
		s.Corrupt(x.ID)
	}
}

func moreOf(s *Spool, id uint64) (itemRecord, bool) {
	x, ok := s.More(id)
	if !ok {
		return itemRecord{}, false
	}
	m, err := recordOf(x)
	return m, err == nil
}

// appendTo appends a record to a spool.
func appendTo(s *Spool, r message.Record) error {
	e, err := entryOf(r)
	if err != nil {
		return err
	}
	return s.Append(e)
}

// entryOf gives the entry that keeps a record.
func entryOf(r message.Record) (Entry, error) {
	body, err := message.AppendBody(make([]byte, 0, 128), r)
	return Entry{Class: classOf(r.Kind), Sensor: r.Sensor, Run: r.Run, Seq: r.Seq, Stamp: r.Stamp, Body: body}, err
}

// formOf gives the form in which a record is kept.
func formOf(t testing.TB, r message.Record) []byte {
	t.Helper()
	e, err := entryOf(r)
	if err != nil {
		t.Fatal(err)
	}
	return appendEntry(nil, e)
}

func classOf(k message.Kind) Class {
	switch k {
	case message.Reading:
		return Samples
	case message.Edge:
		return Edges
	}
	return Events
}

// claim is what a gap's record says is missing; its lo is 0 where it is about no
// counts.
func claim(r message.Record) loss {
	var x loss
	if after, ok := r.Field("after_seq").(int64); ok {
		x.lo = uint64(after) + 1
	}
	to, closed := r.Field("to_seq").(int64)
	x.hi, x.open = uint64(to), !closed
	certain, said := r.Field("certain").(bool)
	x.uncertain = said && !certain
	return x
}

// reasonOf is the reason in a gap's record.
func reasonOf(r message.Record) string {
	reason, _ := r.Field("reason").(string)
	return reason
}

// takeItems returns what Next gives, at most n.
func (r *rig) takeItems(n int) []itemRecord {
	var out []itemRecord
	for len(out) < n {
		x, ok := r.next()
		if !ok {
			break
		}
		out = append(out, x)
	}
	return out
}

// next gives what Next gives, after what it wanted has been read.
func (r *rig) next() (itemRecord, bool) {
	if r.stop == nil {
		return readNext(r.s)
	}
	x, ok := nextOf(r.s)
	if !ok {
		synctest.Wait()
		x, ok = nextOf(r.s)
	}
	return x, ok
}

// readNext gives what Next gives of a spool that does not run, after what it
// wanted has been read.
func readNext(s *Spool) (itemRecord, bool) {
	for {
		if x, ok := nextOf(s); ok || !s.reader.readOne() {
			return x, ok
		}
	}
}

const all = 1 << 30

// brief writes items as "air:3", and gaps as "gap air 7 [4,9] spool_full".
func brief(items []itemRecord) string {
	var out []string
	for _, x := range items {
		r := x.Record
		if r.Kind != message.Gap {
			out = append(out, fmt.Sprintf("%s:%d", r.Sensor, r.Seq))
			continue
		}
		s := fmt.Sprintf("gap %s %d", r.Sensor, r.Run)
		for _, f := range r.Fields {
			s += fmt.Sprintf(" %s=%v", f.Name, f.Value)
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

func (r *rig) want(got []itemRecord, want string) {
	r.t.Helper()
	if b := brief(got); b != want {
		r.t.Errorf("got  %s\nwant %s", b, want)
	}
}

func wait(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// full is a disk that is full for everything but removals.
func full(op, _ string) error {
	if op == "write" || op == "create" {
		return syscall.ENOSPC
	}
	return nil
}

// memDisk is a disk in memory that knows what a power cut would leave of it,
// and fails when told to.
type memDisk = durabletest.Dir

func newMemDisk() *memDisk {
	d := durabletest.New()
	d.Locked = &LockedError{Dir: "memory", PID: 1}
	return d
}
