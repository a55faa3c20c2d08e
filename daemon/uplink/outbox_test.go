package uplink

import (
	"testing"
)

func TestQueue(t *testing.T) {
	q := NewQueue()
	if _, ok := q.Next(); ok {
		t.Fatal("an empty queue gives something")
	}
	payload := []byte("1")
	one := q.Publish("a", payload)
	payload[0] = 'x'
	two, three := q.Publish("b", []byte("2")), q.Publish("c", []byte("3"))
	<-q.Ready()
	first, _ := q.Next()
	second, _ := q.Next()
	if string(first.Payload) != "1" || first.Topic != "a" || second.Topic != "b" || first.ID == second.ID {
		t.Errorf("got %+v, %+v", first, second)
	}
	q.Ack(second.ID)
	q.Ack(second.ID) // a repeated PUBACK does nothing
	q.Rewind()
	for _, want := range []string{"a", "c"} {
		if m, ok := q.Next(); !ok || m.Topic != want {
			t.Errorf("after a rewind: %+v, want %q", m, want)
		}
	}
	if _, ok := q.Next(); ok {
		t.Error("gives more than there is")
	}
	q.Refuse(first.ID, "too big")
	if a, b, c := settled(one), settled(two), settled(three); a != "cannot be sent: too big" || b != "acknowledged" || c != "" {
		t.Errorf("got %q, %q, %q", a, b, c)
	}
	q.Publish("d", nil)
	if m, ok := q.Next(); !ok || m.Topic != "d" {
		t.Errorf("after a refusal: %+v", m)
	}
}
