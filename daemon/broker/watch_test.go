package broker

import (
	"strings"
	"testing"
)

// Who watches sees what is published, by its filter, and what was retained before; no policy
// limits that. What is wrong is refused.
func TestWatch(t *testing.T) {
	b, err := New(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer b.listener.Close()
	publish := func(topic, payload string, retain bool) {
		t.Helper()
		if err := b.Publish(Message{topic, []byte(payload), 1, retain}); err != nil {
			t.Fatal(err)
		}
	}
	publish("test/old", "before", true)
	publish("test/gone", "before", false)
	var got []string
	stop, err := b.Watch("test/#", func(m Message) {
		text := m.Topic + " " + string(m.Payload)
		if m.Retained {
			text += " retained"
		}
		got = append(got, text)
	})
	if err != nil {
		t.Fatal(err)
	}
	publish("test/topic", "now", true)
	publish("other", "now", false)
	stop()
	publish("test/topic", "later", false)
	if want := "test/old before retained, test/topic now"; strings.Join(got, ", ") != want {
		t.Errorf("%q, want %q", got, want)
	}
	for _, m := range []Message{
		{Topic: "test/#"}, {Topic: ""}, {Topic: "a/b/c/d/e/f/g/h/i"}, {Topic: "a", QoS: 2}, {Topic: "a", Payload: make([]byte, 128<<10+1)},
	} {
		if err := b.Publish(m); err == nil {
			t.Errorf("%q is published", m.Topic)
		}
	}
	if _, err := b.Watch("a/#/b", nil); err == nil || !strings.Contains(err.Error(), "may have # only") {
		t.Errorf("%v", err)
	}
}
