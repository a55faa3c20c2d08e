package spool

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/durable"
	"fieldpost/daemon/message"
)

// slowDisk has whoever uses it wait where gate does.
type slowDisk struct {
	disk
	gate func(op, name string)
}

type slowFile struct {
	durable.File
	d    *slowDisk
	name string
}

func (d *slowDisk) Lock() (io.Closer, error) { d.gate("lock", ""); return d.disk.Lock() }

func (d *slowDisk) Read(name string, limit int) ([]byte, error) {
	d.gate("read", name)
	return d.disk.Read(name, limit)
}

func (d *slowDisk) Create(name string) (durable.File, error) {
	d.gate("create", name)
	f, err := d.disk.Create(name)
	return &slowFile{f, d, name}, err
}

func (d *slowDisk) Append(name string) (durable.File, error) {
	d.gate("add", name)
	f, err := d.disk.Append(name)
	return &slowFile{f, d, name}, err
}

func (d *slowDisk) Sync() error { d.gate("syncdir", ""); return d.disk.Sync() }

func (f *slowFile) Write(b []byte) (int, error) {
	f.d.gate("write", f.name)
	return f.File.Write(b)
}

func (f *slowFile) Sync() error     { f.d.gate("sync", f.name); return f.File.Sync() }
func (f *slowFile) Datasync() error { f.d.gate("datasync", f.name); return f.File.Datasync() }

// newSlow opens a spool whose disk hangs from the time when hang is called
// until release is.
func newSlow(t *testing.T, d *memDisk, o Options) (r *rig, hang, release func()) {
	shut := make(chan chan struct{}, 1)
	shut <- nil
	r = newRigOn(t, d, &slowDisk{d, func(string, string) {
		until := <-shut
		shut <- until
		if until != nil {
			<-until
		}
	}}, o)
	hang = func() { <-shut; shut <- make(chan struct{}) }
	release = func() { close(<-shut); shut <- nil }
	return r, hang, release
}

// prompt fails the test when f takes any time.
func prompt(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		f()
		close(done)
	}()
	synctest.Wait()
	select {
	case <-done:
	default:
		t.Fatalf("%s waits for the disk", what)
	}
}

// Nobody but the spool's own goroutines waits for a disk that hangs, be it to
// write, to sync or to read back; what is in memory goes on; and it is a fault
// until the disk answers.
func TestDiskThatHangs(t *testing.T) {
	for _, atRisk := range []time.Duration{0, time.Second} {
		synctest.Test(t, func(t *testing.T) {
			r, hang, release := newSlow(t, backlog(t, true), Options{AtRisk: atRisk})
			r.start()
			first := r.takeItems(3000)
			if len(first) != 3000 {
				t.Fatalf("%d records", len(first))
			}
			hang()
			for range 30 {
				prompt(t, "Append", func() {
					r.add(message.Reading, "air")
					r.add(message.Edge, "door")
				})
				prompt(t, "Next", func() { nextOf(r.s) })
				prompt(t, "Refuse", func() { r.s.Refuse(first[1].ID, "no") })
				prompt(t, "Ack", func() { r.s.Ack(first[0].ID) }) // the edge
				prompt(t, "Rewind", r.s.Rewind)
				prompt(t, "Stats", func() { r.s.Stats() })
				wait(time.Second)
			}
			if told := r.takeFaults(); told != "spool_unavailable raised" || r.s.Stats().Disk {
				t.Errorf("faults %q, %+v", told, r.s.Stats())
			}
			Edges := 0
			for _, x := range r.takeItems(all) {
				if x.Record.Kind == message.Edge && x.Record.Run == 2 {
					Edges++
				}
			}
			if Edges != 30 {
				t.Errorf("%d edges can be sent while the disk hangs, want 30", Edges)
			}
			release()
			wait(5 * time.Second)
			if told := r.takeFaults(); told != "spool_unavailable cleared" || !r.s.Stats().Disk {
				t.Errorf("faults %q, %+v", told, r.s.Stats())
			}
			r.s.Rewind()
			items := r.takeItems(all)
			if missing := checkAllTold(t, items); missing != 1 || len(items) != 10060 {
				t.Errorf("%d missing, %d records", missing, len(items))
			}
			if err := r.stopAndClose(); err != nil {
				t.Error(err)
			}
		})
	}
}

// While its oldest samples are on a disk that hangs, a new sample waits: they
// go in order. An event of which all is in memory does not.
func TestEventsPassSamplesOnADiskThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, hang, release := newSlow(t, backlog(t, true), Options{AtRisk: time.Second})
		for _, x := range r.takeItems(1) {
			r.s.Ack(x.ID) // the edge
		}
		hang()
		r.start()
		r.add(message.Reading, "air")
		r.appendRecord(message.Record{Kind: message.Answer})
		r.want(r.takeItems(all), ":0")
		release()
		if n := len(r.takeItems(all)); n != 10001 {
			t.Errorf("%d records", n)
		}
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

// Samples pass events that are on a disk that hangs, as soon as it is known to.
func TestSamplesPassEventsOnADiskThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: time.Second}).start()
		r.appendRecord(message.Record{Kind: message.Answer})
		if err := r.stopAndClose(); err != nil {
			t.Fatal(err)
		}
		r, hang, release := newSlow(t, r.d, Options{AtRisk: time.Second})
		hang()
		r.start()
		r.add(message.Reading, "air")
		r.want(r.takeItems(all), "")
		wait(hangAfter)
		r.want(r.takeItems(all), "air:1")
		release()
		r.want(r.takeItems(all), ":0")
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}
