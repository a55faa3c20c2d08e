package outbox

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/config"
	"fieldpost/daemon/message"
	"fieldpost/daemon/records"
	"fieldpost/daemon/spool"
	"fieldpost/daemon/task"
	"fieldpost/daemon/uplink"
	"fieldpost/sensors"
)

// boxed is an outbox on a spool of its own.
type boxed struct {
	*Outbox
	t     *testing.T
	seq   map[string]uint64
	acked []string
}

var _ uplink.Batcher = (*Outbox)(nil)

// newBoxed makes an outbox; its spool is in memory as its writer does not run.
func newBoxed(t *testing.T, topic string, b config.Batch) *boxed {
	t.Helper()
	now := clock.Fake()
	s, err := records.Open(spool.Options{Dir: t.TempDir(), AtRisk: time.Second, Clock: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	cfg := &config.Config{Thing: "thing", Readings: config.Readings{Topic: topic, Batch: b}, Commands: config.Commands{Topic: "orders", Answers: "answers"}}
	x := &boxed{t: t, seq: map[string]uint64{}}
	x.Outbox = New(Options{Spool: s, Config: cfg, Clock: now, Acked: func(r message.Record) { x.acked = append(x.acked, fmt.Sprint(r.Sensor, r.Seq)) }})
	x.Rewind()
	return x
}

// put takes in the next record of a kind; text is added to it.
func (x *boxed) put(kind message.Kind, sensor, text string) {
	x.t.Helper()
	r := message.Record{Kind: kind, Sensor: sensor, Run: x.Spool.RunNumber(), Stamp: x.Clock.Now()}
	if kind == message.Reading || kind == message.Edge {
		x.seq[sensor]++
		r.Seq = x.seq[sensor]
	}
	if text != "" {
		r.Fields = []sensors.Field{{Name: "text", Value: text}}
	}
	if err := x.Spool.Append(r); err != nil {
		x.t.Fatal(err)
	}
}

func (x *boxed) readings(sensor string, n int) {
	x.t.Helper()
	for range n {
		x.put(message.Reading, sensor, "")
	}
}

// all takes every mail that Next gives now.
func (x *boxed) all() (mail []uplink.Publication) {
	for {
		m, ok := x.Next()
		if !ok {
			return mail
		}
		mail = append(mail, m)
	}
}

// content says what mails hold: "air 1 2" for an array of two readings, "fault"
// for an object.
func content(t *testing.T, mail []uplink.Publication) (out []string) {
	t.Helper()
	type message struct {
		Thing, Kind, Sensor string
		Seq                 int
	}
	for _, m := range mail {
		var one message
		if err := json.Unmarshal(m.Payload, &one); err == nil {
			out = append(out, one.Kind+one.Sensor)
			continue
		}
		var many []message
		if err := json.Unmarshal(m.Payload, &many); err != nil || len(many) == 0 {
			t.Fatalf("payload %s: %v", m.Payload, err)
		}
		var s strings.Builder
		last := ""
		for _, r := range many {
			if r.Thing != "thing" || r.Kind != "" {
				t.Errorf("in an array: %+v", r)
			}
			if r.Sensor != last {
				fmt.Fprintf(&s, " %s", r.Sensor)
				last = r.Sensor
			}
			fmt.Fprintf(&s, " %d", r.Seq)
		}
		out = append(out, strings.TrimSpace(s.String()))
	}
	return out
}

func (x *boxed) want(what string, want ...string) []uplink.Publication {
	x.t.Helper()
	mail := x.all()
	if got := content(x.t, mail); !slices.Equal(got, want) {
		x.t.Errorf("%s: got %q, want %q", what, got, want)
	}
	return mail
}

// Without batches every record is an object of its own, at once.
func TestNoBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBoxed(t, "t", config.Batch{Within: time.Minute})
		x.readings("air", 2)
		x.put(message.Edge, "door", "")
		mail := x.want("all", "door", "air", "air")
		if due := x.Due(); !due.IsZero() {
			t.Errorf("something is due at %v", due)
		}
		for _, m := range mail {
			x.Ack(m.ID)
		}
		x.Rewind()
		x.want("after the acks")
		if got := strings.Join(x.acked, ","); got != "door1,air1,air2" {
			t.Errorf("acknowledged: %s", got)
		}
	})
}

func TestBatchWaitsForMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBoxed(t, "t", config.Batch{Max: 4, Within: 10 * time.Second})
		began := time.Now()
		x.readings("air", 1)
		x.want("at once")
		<-time.After(6 * time.Second)
		x.readings("air", 2)
		x.want("too early")
		if d := x.Due().Sub(began); d != 10*time.Second {
			t.Errorf("due %v after the oldest was taken", d)
		}
		<-time.After(time.Until(x.Due()))
		x.want("when due", "air 1 2 3")
		if due := x.Due(); !due.IsZero() {
			t.Errorf("nothing waits, but something is due at %v", due)
		}
		x.readings("air", 9)
		x.want("the full ones", "air 4 5 6 7", "air 8 9 10 11")
		x.Flush()
		if due := x.Due(); due.After(time.Now()) {
			t.Errorf("in a hurry the rest is due at %v", due)
		}
		x.want("the rest", "air 12")
	})
}

// What has waited in the spool has waited enough.
func TestBacklogGoesOutInFullBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBoxed(t, "t", config.Batch{Max: 100, Within: time.Minute})
		x.readings("air", 1050)
		<-time.After(time.Hour)
		mail := x.all()
		if len(mail) != 11 {
			t.Fatalf("%d mails, want 11", len(mail))
		}
		for i, m := range mail[:10] {
			if n := strings.Count(string(m.Payload), `"seq":`); n != 100 {
				t.Errorf("mail %d has %d records", i, n)
			}
			x.Ack(m.ID)
		}
		x.Rewind()
		if again := x.all(); len(again) != 1 || again[0].ID != mail[10].ID {
			t.Errorf("%d mails come again", len(again))
		}
		if x.Spool.Stats().Samples.Pending != 50 || len(x.acked) != 1000 {
			t.Errorf("%d acknowledged, left: %+v", len(x.acked), x.Spool.Stats().Samples)
		}
	})
}

// All that is no reading is an object, and goes ahead; edges wait for nothing.
// A backlog that goes out slowly does not hold up what few readings there are of
// another topic.
func TestABacklogHoldsUpNoOtherTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBoxed(t, "test/{sensor}", config.Batch{Max: 10, Within: time.Second})
		x.readings("air", 50)
		x.readings("door", 1)
		x.readings("air", 2000)
		<-time.After(time.Hour) // it is a backlog
		began := time.Now()
		for n := 0; ; n++ {
			m, ok := x.Next()
			if !ok {
				t.Fatal("the door's reading never came")
			}
			if m.Topic == "test/door" {
				if took := time.Since(began); took < time.Second || took > 2*time.Second {
					t.Errorf("the door's reading came after %v", took)
				}
				break
			}
			if n := len(content(t, []uplink.Publication{m})[0]); n < len("air 1 2 3 4 5 6 7 8 9 10") {
				t.Errorf("a batch of the backlog is not full: %d", n)
			}
			<-time.After(25 * time.Millisecond)
		}
	})
}

func TestEventsGoAheadOfBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBoxed(t, "t", config.Batch{Max: 3, Within: time.Second})
		x.readings("air", 4)
		x.put(message.Fault, "air", "")
		x.put(message.Gap, "air", "")
		x.put(message.Status, "", "")
		for range 4 {
			x.put(message.Edge, "door", "")
		}
		x.put(message.Answer, "", "")
		x.put(message.Edge, "door", "")
		x.put(message.Event, "", "")
		mail := x.want("all", "faultair", "gapair", "status", "door 1 2 3", "answer", "event", "air 1 2 3", "door 4 5")
		for _, m := range mail {
			want := "t"
			if s := string(m.Payload); strings.Contains(s, `"answer"`) || strings.Contains(s, `"event"`) {
				want = "answers"
			}
			if m.Topic != want {
				t.Errorf("%s went to %q", m.Payload, m.Topic)
			}
		}
		x.put(message.Fault, "air", "") // while one sample waits
		x.put(message.Edge, "door", "")
		x.want("later", "faultair", "door 6")
	})
}

// A batch is for one topic; each has its own time.
func TestBatchesOfTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBoxed(t, "t/{sensor}", config.Batch{Max: 3, Within: 4 * time.Second})
		x.readings("air", 2)
		<-time.After(time.Second)
		x.readings("soil", 1)
		x.put(message.Edge, "a", "")
		x.put(message.Edge, "b", "")
		mail := x.want("edges", "a 1", "b 1")
		<-time.After(time.Second)
		x.readings("air", 2)
		mail = append(mail, x.want("a full one", "air 1 2 3")...)
		<-time.After(3 * time.Second) // soil has waited four
		mail = append(mail, x.want("the older", "soil 1")...)
		<-time.After(time.Second)
		mail = append(mail, x.want("the younger", "air 4")...)
		for i, want := range []string{"t/a", "t/b", "t/air", "t/soil", "t/air"} {
			if mail[i].Topic != want {
				t.Errorf("mail %d went to %q, want %q", i, mail[i].Topic, want)
			}
		}
	})
}

// However many topics there are, and however long they may wait, open batches
// take no more than their bound; and no mail is larger than the broker takes.
func TestBatchesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBoxed(t, "t/{sensor}", config.Batch{Max: 1000, Within: time.Minute})
		text := strings.Repeat("x", 10<<10)
		for range 12 {
			for i := range 30 {
				x.put(message.Reading, fmt.Sprint("s", i), text)
			}
		}
		mail := x.all()
		if x.size > openBytes || x.size < openBytes/2 {
			t.Errorf("%d bytes are open", x.size)
		}
		x.Flush()
		mail = append(mail, x.all()...)
		records := 0
		for _, m := range mail {
			records += strings.Count(string(m.Payload), `"seq":`)
			if len(m.Payload) > batchBytes || !json.Valid(m.Payload) {
				t.Errorf("a mail of %d bytes", len(m.Payload))
			}
			x.Ack(m.ID)
		}
		if records != 12*30 || x.size != 0 || x.Spool.Stats().Samples.Pending != 0 {
			t.Errorf("%d records went out, %d bytes are open", records, x.size)
		}
		x.put(message.Reading, "s1", strings.Repeat("x", 120<<10))
		x.put(message.Reading, "s1", "")
		x.Flush()
		if mail := x.all(); len(mail) != 2 {
			t.Errorf("a large record and a small one are %d mails", len(mail))
		}
	})
}

// A batch of one is an array all the same.
func TestBatchesOfOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBoxed(t, "t", config.Batch{Max: 1, Within: time.Minute})
		x.readings("air", 2)
		x.put(message.Edge, "door", "")
		x.want("all", "door 1", "air 1", "air 2")
	})
}

// A rewind forgets what is open: nothing is lost, and nothing comes twice.
func TestRewindForgetsOpenBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBoxed(t, "t", config.Batch{Max: 5, Within: time.Second})
		x.readings("air", 7)
		first := x.want("first", "air 1 2 3 4 5")
		x.Rewind()
		if x.size != 0 || len(x.sent) != 0 || !x.Due().IsZero() {
			t.Errorf("%d bytes are open, %d mails known, something is due at %v", x.size, len(x.sent), x.Due())
		}
		again := x.want("again", "air 1 2 3 4 5")
		if again[0].ID != first[0].ID {
			t.Errorf("its id was %d and is %d", first[0].ID, again[0].ID)
		}
		x.Ack(again[0].ID)
		x.Ack(again[0].ID) // twice, for what it is worth
		<-time.After(time.Second)
		x.want("the rest", "air 6 7")
	})
}

// One poisoned record does not take the others of its batch along.
func TestRefusedBatchIsSplit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBoxed(t, "t", config.Batch{Max: 4, Within: time.Minute})
		x.readings("air", 9)
		mail := x.want("in batches", "air 1 2 3 4", "air 5 6 7 8")
		x.Refuse(mail[1].ID, "refused")
		if n := x.Spool.Stats().Refused; n != 0 {
			t.Fatalf("%d records are set aside for one", n)
		}
		x.Rewind() // the first was not acknowledged
		mail = x.want("alone", "air 1 2 3 4", "air 5", "air 6", "air 7", "air 8")
		x.Refuse(mail[2].ID, "refused")
		for _, i := range []int{0, 1, 3, 4} {
			x.Ack(mail[i].ID)
		}
		if st := x.Spool.Stats(); st.Refused != 1 || st.Samples.Pending != 1 || len(x.alone) != 0 {
			t.Errorf("after one was refused: %+v, %d marked", st, len(x.alone))
		}
		x.readings("air", 3)
		x.want("and on", "gapair", "air 9 10 11 12")
		if got := strings.Join(x.acked, ","); got != "air1,air2,air3,air4,air5,air7,air8" {
			t.Errorf("acknowledged: %s", got)
		}
	})
}

// What goes alone does not overtake what came before it.
func TestAloneKeepsItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBoxed(t, "t", config.Batch{Max: 10, Within: time.Minute})
		x.readings("air", 3)
		x.Flush()
		mail := x.want("together", "air 1 2 3")
		x.Refuse(mail[0].ID, "refused")
		x.Rewind()
		first, _ := x.Next()
		x.Ack(first.ID)
		delete(x.alone, first.ID+3) // as if the second had never been refused; ids of a log are three apart
		if len(x.alone) != 1 {
			t.Fatalf("%d marks", len(x.alone))
		}
		x.Rewind()
		x.want("in order", "air 2", "air 3")
	})
}

// What a thing took goes out under its name and to its topics, whatever the
// thing is called by now; batches of two things are two.
func TestMailOfAnEarlierName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now, dir := clock.Fake(), t.TempDir()
		var id string
		open := func(thing string) *boxed {
			s, err := records.Open(spool.Options{Dir: dir, Thing: thing, AtRisk: time.Second, Clock: now})
			if err != nil {
				t.Fatal(err)
			}
			id = s.Source().Spool
			cfg := &config.Config{
				Thing: thing, Readings: config.Readings{Topic: "field/{thing}/{sensor}", Batch: config.Batch{Max: 9, Within: time.Hour}},
				Commands: config.Commands{Answers: "field/{thing}/answers"},
			}
			return &boxed{t: t, seq: map[string]uint64{}, Outbox: New(Options{Spool: s, Config: cfg, Clock: now})}
		}
		x := open("east")
		x.readings("air", 2)
		x.put(message.Answer, "", "")
		if err := x.Spool.Close(); err != nil {
			t.Fatal(err)
		}
		x = open("west")
		x.readings("air", 1)
		x.put(message.Fault, "air", "")
		stop := task.Start("spool", make(chan error, 1), x.Spool.Run)
		x.Flush()
		var got []string
		for range 9 {
			synctest.Wait()
			for _, m := range x.all() {
				got = append(got, m.Topic+" "+strings.ReplaceAll(string(m.Payload), id, "ID"))
			}
		}
		stamp := `"time":"` + now.Now().Wall.Format("2006-01-02T15:04:05.000Z") + `"`
		want := []string{
			`field/east/answers {"thing":"east","kind":"answer","spool":"ID","run":1,` + stamp + `}`,
			`field/west/air {"thing":"west","kind":"fault","sensor":"air","spool":"ID","run":2,` + stamp + `}`,
			`field/east/air [{"thing":"east","sensor":"air","spool":"ID","run":1,"seq":1,` + stamp + `},{"thing":"east","sensor":"air","spool":"ID","run":1,"seq":2,` + stamp + `}]`,
			`field/west/air [{"thing":"west","sensor":"air","spool":"ID","run":2,"seq":1,` + stamp + `}]`,
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if err := stop.Stop(time.Minute); err != nil {
			t.Error(err)
		}
		if err := x.Spool.Close(); err != nil {
			t.Error(err)
		}
	})
}
