package outbox

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"fieldpost/daemon/config"
	"fieldpost/daemon/message"
	"fieldpost/daemon/uplink"
	"fieldpost/sensors"
)

// values takes in a reading with these values, named a, b, c.
func (x *boxed) values(kind message.Kind, sensor string, values ...any) {
	x.t.Helper()
	x.seq[sensor]++
	r := message.Record{Kind: kind, Sensor: sensor, Run: x.Spool.RunNumber(), Seq: x.seq[sensor], Stamp: x.Clock.Now()}
	for i, v := range values {
		r.Fields = append(r.Fields, sensors.Field{Name: string(rune('a' + i)), Value: v})
	}
	if err := x.Spool.Append(r); err != nil {
		x.t.Fatal(err)
	}
}

func lines(all []uplink.Publication) (out []string) {
	for _, m := range all {
		out = append(out, fmt.Sprintf("%s %s", m.Topic, m.Payload))
	}
	return out
}

// Each value goes to its own topic, as it is; what is no reading is JSON on a topic
// named for its kind.
func TestPlainValues(t *testing.T) {
	x := newBoxed(t, "home/{thing}/{sensor}/{quantity}", config.Batch{})
	x.values(message.Reading, "air", 21.53, int64(-4), true, "north west", 1e-9)
	x.values(message.Edge, "door", false)
	x.values(message.Reading, "mute")
	x.put(message.Fault, "air", "x")
	x.put(message.Status, "", "x")
	got := map[string]bool{}
	for _, l := range lines(x.all()) {
		got[l] = true
	}
	want := map[string]bool{
		"home/thing/air/a 21.53": true, "home/thing/air/b -4": true, "home/thing/air/c true": true, "home/thing/air/d north west": true,
		"home/thing/air/e 1e-09": true, "home/thing/door/a false": true,
	}
	for l := range want {
		if !got[l] {
			t.Errorf("%s is missing of %v", l, got)
		}
		delete(got, l)
	}
	if len(got) != 2 {
		t.Errorf("besides the values: %v", got)
	}
	for l := range got {
		if topic := l[:len("home/thing/air/fault {")]; topic != "home/thing/air/fault {" && l[:len("home/thing/fieldpost/status {")] != "home/thing/fieldpost/status {" {
			t.Errorf("besides the values: %s", l)
		}
	}
	if !reflect.DeepEqual(x.acked, []string{"mute1"}) {
		t.Errorf("acknowledged: %v; a reading without a value has nothing to wait for", x.acked)
	}
}

// A record is the broker's when all its values are, in whatever order; a connection
// that ends before has all of them sent again under the same ids.
func TestPlainRecordIsAcknowledgedWhole(t *testing.T) {
	x := newBoxed(t, "{sensor}/{quantity}", config.Batch{})
	x.values(message.Reading, "air", 1.0, 2.0, 3.0)
	first := x.all()
	x.Ack(first[2].ID)
	x.Ack(first[0].ID)
	if len(x.acked) != 0 || x.Spool.Backlog().Records != 1 {
		t.Fatalf("%v, %d wait: acknowledged before its last value was", x.acked, x.Spool.Backlog().Records)
	}
	x.Rewind()
	again := x.all()
	if !reflect.DeepEqual(again, first) {
		t.Fatalf("sent again: %v, want %v", again, first)
	}
	x.Hold(again[1].ID) // its topic is denied
	x.Ack(again[0].ID)
	x.Ack(again[2].ID)
	if len(x.acked) != 0 {
		t.Fatal("acknowledged, with a value held")
	}
	x.Rewind()
	for _, m := range x.all() {
		x.Ack(m.ID)
	}
	if !reflect.DeepEqual(x.acked, []string{"air1"}) || x.Spool.Backlog().Records != 0 {
		t.Errorf("%v acknowledged, %d wait", x.acked, x.Spool.Backlog().Records)
	}
}

// A value that can never be sent takes its record with it, into refused.jsonl, and
// nothing else; an acknowledgement that comes late for it does nothing.
func TestPlainValueRefused(t *testing.T) {
	x := newBoxed(t, "{sensor}/{quantity}", config.Batch{})
	x.values(message.Reading, "air", 1.0, 2.0, 3.0)
	x.values(message.Reading, "soil", 4.0)
	sent, _ := x.Next()
	x.Refuse(sent.ID, "is not taken")
	x.Refuse(sent.ID, "is not taken")
	x.Ack(sent.ID)
	rest := x.all()
	if got := lines(rest); len(got) != 2 || !strings.Contains(got[0], `air/gap {"thing":"thing","kind":"gap"`) || !strings.Contains(got[0], `"reason":"refused"`) || got[1] != "soil/a 4" {
		t.Fatalf("after a refusal come %v, want the gap and soil's value", got)
	}
	x.Ack(rest[0].ID)
	x.Ack(rest[1].ID)
	if !reflect.DeepEqual(x.acked, []string{"air0", "soil1"}) || x.Spool.Backlog().Records != 0 {
		t.Errorf("%v acknowledged, %d wait", x.acked, x.Spool.Backlog().Records)
	}
}
