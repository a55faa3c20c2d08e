package command

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon/uplink"
	"fieldpost/sensors"
)

// on is a message on a topic.
func (m *mail) on(topic string, payload []byte) uplink.Message {
	msg := m.of(payload)
	msg.Topic = topic
	return msg
}

// [CMD-18]
func TestOrderOnAnotherTopic(t *testing.T) {
	elsewhere := []string{
		"field/east/orders", // the board's former name
		"old/orders", "field/west", "field/west/orders/", "/field/west/orders", "field/west/orders/x", "Field/west/orders", "field/west/orders\u200b",
		"field/+/orders", "#", "$share/all/field/west/orders", "",
	}
	for _, topic := range elsewhere {
		b, m := newBench(t), &mail{}
		b.serve(m.on(topic, order("a", "pump", "on", time.Minute)), m.on(topic, order("", "pump", "off", 0)), m.on(topic, []byte("hello")))
		if len(b.pins.did) != 0 || len(b.sent) != 0 || len(m.acked) != 3 {
			t.Errorf("%q: did %q, %d answers, %d acknowledged; want nothing but 3 acknowledged", topic, b.pins.did, len(b.sent), len(m.acked))
		}
		if st := b.desk.Stats(); st != (Stats{Elsewhere: 3}) {
			t.Errorf("%q: %+v, want 3 elsewhere", topic, st)
		}
		b.serve(m.on(orders, order("a", "pump", "on", time.Minute))) // the id was not used up
		if len(b.pins.did) != 1 {
			t.Errorf("%q: afterwards did %q, want the order on the right topic", topic, b.pins.did)
		}
	}
}

// Without a topic of orders none comes by MQTT, whatever a session brings. [CMD-18]
func TestNoTopicOfOrders(t *testing.T) {
	b, m := newBench(t), &mail{}
	b.desk.o.Topic = ""
	for _, topic := range []string{orders, ""} {
		b.serve(m.on(topic, order("a", "pump", "on", time.Minute)))
	}
	if len(b.pins.did) != 0 || len(b.sent) != 0 || len(m.acked) != 2 || b.desk.Stats().Elsewhere != 2 {
		t.Errorf("did %q, %d answers, %d acknowledged, %+v", b.pins.did, len(b.sent), len(m.acked), b.desk.Stats())
	}
	defer b.work()()
	if a, ok := b.desk.Handle(order("b", "pump", "on", time.Minute), false, "local uid=0"); !ok || a.Status != Done {
		t.Errorf("by the socket: %+v", a)
	}
}

// One warning a topic, and not more than so many, whatever comes.
func TestWarningsOfOtherTopics(t *testing.T) {
	b, m := newBench(t), &mail{}
	var said bytes.Buffer
	b.desk.o.Log = slog.New(slog.NewTextHandler(&said, nil))
	for range 2 {
		b.serve(m.on("old/orders", nil), m.on("older/orders", nil))
	}
	if n := strings.Count(said.String(), "level=WARN"); n != 2 || !strings.Contains(said.String(), "topic=old/orders want="+orders) {
		t.Errorf("%d warnings, want 2 that name topics:\n%s", n, said.String())
	}
	said.Reset()
	for i := range 1000 {
		b.serve(m.on(fmt.Sprint(strings.Repeat("x", 60_000), i), nil))
	}
	if n := strings.Count(said.String(), "level=WARN"); n != maxStray-1 || said.Len() > 64<<10 || !strings.Contains(said.String(), "no more of them are named") {
		t.Errorf("%d warnings of %d bytes, want %d", n, said.Len(), maxStray-1)
	}
	if len(b.desk.strays.seen) > maxStray+1 {
		t.Errorf("%d topics are remembered", len(b.desk.strays.seen))
	}
}

// A message of which the link kept only the beginning: an order is refused, with
// its id if that is there; all else is passed over. [CMD-2]
func TestOrderOfWhichTheBeginningIsLeft(t *testing.T) {
	b, m := newBench(t), &mail{}
	cut := func(topic, text string) uplink.Message {
		msg := m.on(topic, []byte(text))
		msg.QoS, msg.Size = 0, 870_000
		return msg
	}
	b.serve(
		cut(orders, `{"id":"a","output":"pump","action":"on","note":"xxx`),
		cut(orders, `{"message":"xxx`), cut(orders, `{"kind":"gap","action":"on","note":"xxx`), cut(orders, `{"id":"b","output":"pump","act`),
		cut("old/orders", `{"id":"c","output":"pump","action":"on","note":"xxx`),
		cut(orders, `{"output":"pump","action":"off"}`), // whole, and more behind it
	)
	st := b.desk.Stats()
	if len(b.pins.did) != 0 || st.Refused != 2 || st.Passed != 3 || st.Elsewhere != 1 {
		t.Errorf("did %q, %+v; want two refused, three passed over, one elsewhere", b.pins.did, st)
	}
	if len(b.sent) != 2 {
		t.Fatalf("%d answers", len(b.sent))
	}
	said := map[string]any{}
	for _, r := range b.sent {
		if r.Fields[0] == (sensors.Field{Name: "id", Value: "a"}) {
			for _, f := range r.Fields {
				said[f.Name] = f.Value
			}
		}
	}
	if len(said) == 0 || said["reason"] != string(TooLarge) || !strings.Contains(said["hint"].(string), "870000 bytes") {
		t.Errorf("answered %v", said)
	}
}
