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

// on makes a message on a topic.
func (sent *messages) on(topic string, payload []byte) uplink.Message {
	msg := sent.of(payload)
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
		h, sent := newHarness(t), &messages{}
		h.serve(sent.on(topic, order("a", "pump", "on", time.Minute)), sent.on(topic, order("", "pump", "off", 0)), sent.on(topic, []byte("hello")))
		if len(h.pins.did) != 0 || len(h.sent) != 0 || len(sent.acked) != 3 {
			t.Errorf("%q: did %q, %d answers, %d acknowledged; want nothing but 3 acknowledged", topic, h.pins.did, len(h.sent), len(sent.acked))
		}
		if st := h.dispatcher.Stats(); st != (Stats{Elsewhere: 3}) {
			t.Errorf("%q: %+v, want 3 elsewhere", topic, st)
		}
		h.serve(sent.on(orders, order("a", "pump", "on", time.Minute))) // the id is still unused
		if len(h.pins.did) != 1 {
			t.Errorf("%q: afterwards did %q, want the order on the right topic", topic, h.pins.did)
		}
	}
}

// Without a topic of orders, no message over MQTT is an order. [CMD-18]
func TestNoTopicOfOrders(t *testing.T) {
	h, sent := newHarness(t), &messages{}
	h.dispatcher.Reconfigure(Settings{Thing: thing, MaxLife: time.Hour})
	for _, topic := range []string{orders, ""} {
		h.serve(sent.on(topic, order("a", "pump", "on", time.Minute)))
	}
	if len(h.pins.did) != 0 || len(h.sent) != 0 || len(sent.acked) != 2 || h.dispatcher.Stats().Elsewhere != 2 {
		t.Errorf("did %q, %d answers, %d acknowledged, %+v", h.pins.did, len(h.sent), len(sent.acked), h.dispatcher.Stats())
	}
	defer h.work()()
	if a, ok := h.dispatcher.Handle(order("b", "pump", "on", time.Minute), false, "local uid=0"); !ok || a.Status != Done {
		t.Errorf("by the socket: %+v", a)
	}
}

// There is one warning for each topic, and a limited number of warnings.
func TestWarningsOfOtherTopics(t *testing.T) {
	h, sent := newHarness(t), &messages{}
	var said bytes.Buffer
	h.dispatcher.o.Log = slog.New(slog.NewTextHandler(&said, nil))
	for range 2 {
		h.serve(sent.on("old/orders", nil), sent.on("older/orders", nil))
	}
	if n := strings.Count(said.String(), "level=WARN"); n != 2 || !strings.Contains(said.String(), "topic=old/orders want="+orders) {
		t.Errorf("%d warnings, want 2 that name topics:\n%s", n, said.String())
	}
	said.Reset()
	for i := range 1000 {
		h.serve(sent.on(fmt.Sprint(strings.Repeat("x", 60_000), i), nil))
	}
	if n := strings.Count(said.String(), "level=WARN"); n != maxStray-1 || said.Len() > 64<<10 || !strings.Contains(said.String(), "not naming more of them") {
		t.Errorf("%d warnings of %d bytes, want %d", n, said.Len(), maxStray-1)
	}
	if len(h.dispatcher.strays.seen) > maxStray+1 {
		t.Errorf("%d topics are remembered", len(h.dispatcher.strays.seen))
	}
}

// If the link kept only the beginning of a message, an order is refused, with its id if
// that is there. Anything else is ignored. [CMD-2]
func TestTruncatedOrder(t *testing.T) {
	h, sent := newHarness(t), &messages{}
	cut := func(topic, text string) uplink.Message {
		msg := sent.on(topic, []byte(text))
		msg.QoS, msg.Size = 0, 870_000
		return msg
	}
	h.serve(
		cut(orders, `{"id":"a","output":"pump","action":"on","note":"xxx`),
		cut(orders, `{"message":"xxx`), cut(orders, `{"kind":"gap","action":"on","note":"xxx`), cut(orders, `{"id":"b","output":"pump","act`),
		cut("old/orders", `{"id":"c","output":"pump","action":"on","note":"xxx`),
		cut(orders, `{"output":"pump","action":"off"}`), // complete, with more data after it
	)
	st := h.dispatcher.Stats()
	if len(h.pins.did) != 0 || st.Refused != 2 || st.Passed != 3 || st.Elsewhere != 1 {
		t.Errorf("did %q, %+v; want two refused, three passed over, one elsewhere", h.pins.did, st)
	}
	if len(h.sent) != 2 {
		t.Fatalf("%d answers", len(h.sent))
	}
	said := map[string]any{}
	for _, r := range h.sent {
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
