package spool

import (
	"slices"
	"testing"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/message"
)

// FuzzFiles puts any bytes in the place of one of a spool's files. The spool
// opens, what the other files hold comes out of it, and a second start finds
// nothing wrong any more.
func FuzzFiles(f *testing.F) {
	o := Options{Dir: "memory", Clock: clock.Fake(), AtRisk: time.Second, Sensors: []string{"air"}}
	d := newMemDisk()
	for run := range uint64(2) {
		s, err := open(o, d)
		if err != nil {
			f.Fatal(err)
		}
		for seq := range uint64(4) {
			for _, kind := range []message.Kind{message.Reading, message.Edge, message.Answer} {
				if err := appendTo(s, message.Record{Kind: kind, Sensor: "air", Run: run + 1, Seq: seq + 1}); err != nil {
					f.Fatal(err)
				}
			}
		}
		s.due()
		x, _ := nextOf(s)
		s.Ack(x.ID)
		s.due()
		d = d.Kill() // so the next has gaps to tell
	}
	files := slices.DeleteFunc(d.Files("", ""), func(name string) bool { return name == lockName })
	for i, name := range files {
		f.Add(uint8(i), d.Data(name))
		f.Add(uint8(i), append(d.Data(name), d.Data(files[0])...))
	}
	f.Fuzz(func(t *testing.T, which uint8, b []byte) {
		d := d.Kill()
		name := files[int(which)%len(files)]
		d.Put(name, b)
		for start := range 2 {
			s, err := open(o, d)
			if err != nil {
				t.Fatal(err)
			}
			if damaged := s.Stats().Damaged; start == 1 && damaged != 0 {
				t.Errorf("%s: %d files damaged after they were mended", name, damaged)
			}
			n := 0
			for _, ok := readNext(s); ok; _, ok = readNext(s) {
				if n++; n > 10000+len(b) {
					t.Fatalf("%s: there is no end", name)
				}
			}
			if name != ackName && name != runName && n == 0 {
				t.Errorf("%s: nothing is left of the others", name)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
