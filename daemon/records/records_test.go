package records

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/message"
	"fieldpost/daemon/spool"
	"fieldpost/sensors"
)

func open(t *testing.T, dir string) *Spool {
	t.Helper()
	s, err := Open(spool.Options{Dir: dir, Thing: "greenhouse", AtRisk: time.Hour, Clock: clock.Fake()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// all gives what there is, in the memory of a spool that does not run.
func all(s *Spool) (out []Item) {
	for {
		x, ok := s.Next()
		if !ok {
			return out
		}
		out = append(out, x)
	}
}

// What goes in comes out, answers first, with the source that took it.
func TestRecordsComeAsTheyWent(t *testing.T) {
	s := open(t, t.TempDir())
	stamp := clock.Stamp{Boot: "b", Mono: time.Second, Wall: time.Unix(7, 8).UTC(), Synced: true}
	reading := message.Record{Kind: message.Reading, Sensor: "air", Run: s.RunNumber(), Seq: 1, Stamp: stamp,
		Fields: []sensors.Field{{Name: "t", Value: 21.5}, {Name: "n", Value: int64(-3)}, {Name: "on", Value: true}, {Name: "text", Value: "ü"}}}
	more := reading
	more.Seq = 2
	answer := message.Record{Kind: message.Answer, Stamp: stamp}
	for _, r := range []message.Record{reading, more, answer} {
		if err := s.Append(r); err != nil {
			t.Fatal(err)
		}
	}
	first, _ := s.Next()
	second, _ := s.Next()
	third, ok := s.More(second.ID)
	for i, x := range []Item{first, second, third} {
		want := []message.Record{answer, reading, more}[i]
		want.Source = s.Source()
		if !reflect.DeepEqual(x.Record(), want) || want.Source.Thing != "greenhouse" || !ok {
			t.Errorf("got  %+v, %v\nwant %+v", x.Record(), ok, want)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestClassOf(t *testing.T) {
	for kind, want := range map[message.Kind]spool.Class{
		message.Reading: spool.Samples, message.Edge: spool.Edges, message.Answer: spool.Events, message.Gap: spool.Events, message.Fault: spool.Events,
	} {
		if got := classOf(kind); got != want {
			t.Errorf("%s: %v", kind, got)
		}
	}
}

func TestAppendRefuses(t *testing.T) {
	s := open(t, t.TempDir())
	err := s.Append(message.Record{Kind: message.Reading, Fields: []sensors.Field{{Name: "v", Value: math.NaN()}}})
	if err == nil || !strings.Contains(err.Error(), `append to spool: field "v" is NaN`) || s.Stats().Appended != 0 {
		t.Errorf("NaN was taken: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// What is refused is kept as the message that it would have been, and a gap tells
// of it.
func TestRefusedIsKeptAsAMessage(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if err := s.Append(message.Record{Kind: message.Reading, Sensor: "air", Run: s.RunNumber(), Seq: 1}); err != nil {
		t.Fatal(err)
	}
	x, _ := s.Next()
	s.Refuse(x.ID, "too large")
	gap, ok := s.Next()
	if got := string(message.Encode("", gap.Record())); !ok || !strings.Contains(got, `"kind":"gap","sensor":"air"`) || !strings.Contains(got, `"after_seq":0,"to_seq":1,"reason":"refused"`) {
		t.Errorf("got %s, %v", got, ok)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "refused.jsonl"))
	var line struct {
		Refused string
		Message struct{ Thing, Sensor string }
	}
	if e := json.Unmarshal(b, &line); err != nil || e != nil || line.Refused != "too large" || line.Message.Thing != "greenhouse" || line.Message.Sensor != "air" {
		t.Errorf("%s: %v, %v", b, err, e)
	}
}

// An entry whose body is no record is damage: a gap tells of it, and the next one is
// given.
func TestABodyThatIsNoRecord(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for seq := range uint64(3) {
		e := spool.Entry{Class: spool.Samples, Sensor: "air", Run: s.RunNumber(), Seq: seq + 1, Body: []byte("no record")}
		if body, err := message.AppendBody(nil, message.Record{Kind: message.Reading}); seq != 1 {
			e.Body = bytes.Clone(body)
		} else if err != nil {
			t.Fatal(err)
		}
		if err := s.Spool.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	check := func(items []Item) {
		t.Helper()
		seen := ""
		for _, x := range items {
			seen += string(x.Record().Kind) + " "
			if x.Record().Kind == message.Gap && x.Record().Field("reason") != "damaged" || x.Record().Kind == message.Reading && x.Record().Seq == 2 {
				t.Errorf("got %+v", x.Record())
			}
		}
		if strings.Count(seen, "reading") != 2 || strings.Count(seen, "gap") != 1 {
			t.Errorf("got %s", seen)
		}
	}
	check(all(s)) // from memory
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	var items []Item
	for len(items) < 3 { // from the file
		<-s.Ready()
		items = append(items, all(s)...)
	}
	check(items)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// A record that cannot be stored does not take those along that are appended with it.
func TestAppendAll(t *testing.T) {
	s := open(t, t.TempDir())
	stamp := clock.Stamp{Boot: "b", Mono: time.Second}
	var rs []message.Record
	for _, v := range []any{1.5, math.NaN(), strings.Repeat("x", 131<<10), "a text that is longer than the room for one body is", int64(3)} {
		n := uint64(len(rs) + 1)
		rs = append(rs, message.Record{Kind: message.Reading, Sensor: "s" + strconv.FormatUint(n, 10), Run: s.RunNumber(), Seq: n, Stamp: stamp, Fields: []sensors.Field{{Name: "v", Value: v}}})
	}
	err := s.AppendAll(rs)
	for _, part := range []string{`reading of "s2": append to spool: field "v" is NaN`, `reading of "s3": append to spool: record of 134`} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not have %s", err, part)
		}
	}
	got := all(s)
	for i, k := range []int{0, 3, 4} {
		want := rs[k]
		want.Source = s.Source()
		if i >= len(got) || !reflect.DeepEqual(got[i].Record(), want) {
			t.Errorf("got %+v\nwant %d to be %+v", got, i, want)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
