package command

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon/clock"
)

// Unusual records are read as they were written.
func TestLedgerRecordsRoundTrip(t *testing.T) {
	far, err := Decode([]byte(`{"id":"é \"<>&","output":"pump","action":"on","for":"1ns","expires":"9999-12-31T23:59:59-23:59"}`), thing)
	if err != nil {
		t.Fatal(err)
	}
	stamp := clock.Stamp{Boot: "b", Mono: 7, Wall: time.Unix(1, 2).UTC(), Synced: true}
	a := Answer{ID: far.ID, Status: Failed, Output: "pump", State: "on", Reason: OutputFailed, Hint: "x", Stamp: stamp}
	k := &knownOrder{order: far, answer: &a, until: 9, boot: "b", expiry: time.Unix(3, 4).UTC(), refused: true}
	r, err := decodeRecord(k.wholeRecord().encode())
	if err != nil {
		t.Fatal(err)
	}
	got := r.knownOrder()
	if *got.answer != a || !got.order.same(far) || got.until != 9 || got.boot != "b" || !got.expiry.Equal(k.expiry) || !got.refused {
		t.Errorf("read %+v %+v, want %+v %+v", got, *got.answer, k, a)
	}
	a.Hint = strings.Repeat("é", maxHint)
	if n := len(resultRecord(a).encode()); n > 2*maxHint {
		t.Errorf("a long hint makes an entry of %d bytes", n)
	}
	for _, text := range []string{"", "{}", "null", `{"v":2,"id":"a","answer":{}}`, `{"v":1,"id":"a"}`, `{"v":1,"answer":{}}`} {
		if r, err := decodeRecord([]byte(text)); err == nil {
			t.Errorf("%q is read as %+v", text, r)
		}
	}
}

// With any journals the dispatcher starts, answers each id at most once, and does not
// carry out orders that it knows.
func FuzzReplay(f *testing.F) {
	f.Add([]byte(`{"v":1,"id":"a","order":{"output":"pump","action":"on","expires":[9,9]},"until":[1,2]}`+"\n"+`{"v":1,"id":"a","answer":{"status":"done"}}`), []byte(`{"v":1,"id":"a","order":{"output":"pump","action":"on"},"refused":true,"unread":true,"answer":{"status":"refused"}}`))
	f.Add([]byte(`{"v":1,"id":"a","answer":{"status":"done","wall":[9223372036854775807,-1]},"mono":-1}`+"\n{}\nnull"), []byte(`{"v":1,"id":"a","order":{"output":"pump","action":"on"},"refused":true,"unread":true,"answer":{"status":"refused"}}`))
	f.Add([]byte(`{"v":1,"forgot":[[[-62135596800,0],[9223372036854775807,9]],[[1,2],[3,4]]]}`+"\n"+`{"v":1,"forgot":[]}`), []byte(`{"v":1,"id":"a","order":{"output":"pump","action":"on"},"refused":true,"unread":true,"answer":{"status":"refused"}}`))
	f.Fuzz(func(t *testing.T, data, other []byte) {
		j, runtime := &memJournal{t: t, entries: bytes.Split(data, []byte("\n"))}, &memJournal{t: t, entries: bytes.Split(other, []byte("\n"))}
		o := newLedgerRunWith(t, j, runtime, clock.Fake())
		told := map[any]bool{}
		for _, r := range o.sent {
			if id := r.Fields[0].Value; told[id] {
				t.Errorf("told twice of order %q", id)
			} else {
				told[id] = true
			}
		}
		o.dispatcher.mu.Lock()
		o.dispatcher.ledger.orders.dropLapsed(o.dispatcher.o.Clock.Now()) // some orders have lapsed
		o.dispatcher.mu.Unlock()
		known := o.dispatcher.ledger.findLocked("a") != nil
		text := order("a", "pump", "on", time.Minute)
		decoded, err := Decode(text, thing)
		if err != nil {
			t.Fatal(err)
		}
		known = known || o.dispatcher.ledger.orders.forgotten.has(decoded.Expires)
		a, ok := o.dispatcher.Handle(text, false, "test")
		if !ok || known != (len(o.pins.did) == 0) {
			t.Errorf("known %v, did %q, answer %+v", known, o.pins.did, a)
		}
		if again := newLedgerRunWith(t, j, runtime, clock.Fake()); again.unsolicited() != nil {
			t.Error("told again at the next start")
		}
	})
}
