package uplink

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// An independent MQTT library reads our packets, with every size of the remaining length.
func TestPublishPacket(t *testing.T) {
	for _, size := range []int{0, 1, 121, 122, 123, 16376, 16377, 16378, maxPayload} {
		payload := bytes.Repeat([]byte{'x'}, size)
		b := appendPublish([]byte("before"), 513, "a/é", payload)
		r := bytes.NewReader(b[len("before"):])
		cp, err := packets.ReadPacket(r)
		must(t, err)
		m, ok := cp.(*packets.PublishPacket)
		if !ok || m.TopicName != "a/é" || m.MessageID != 513 || m.Qos != 1 || m.Dup || m.Retain || !bytes.Equal(m.Payload, payload) {
			t.Errorf("%d bytes: read %v", size, cp)
		}
		if r.Len() != 0 {
			t.Errorf("%d bytes: %d are left", size, r.Len())
		}
	}
}

func TestIdentifierIsNeverZero(t *testing.T) {
	s := &packetIDs{last: 0xfffe}
	if a, b := s.next(), s.next(); a != 0xffff || b != 1 {
		t.Errorf("got %d, %d", a, b)
	}
}

// Messages that are ready together are sent in one TLS record, so in one TCP segment.
func TestWindowIsOneRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		for range 5 {
			l.queue.Publish("t", []byte("m"))
		}
		p := b.accept(true)
		must(t, p.conn.SetReadDeadline(time.Now().Add(time.Minute)))
		record := make([]byte, 4096)
		n, err := p.conn.Read(record)
		must(t, err)
		r := bytes.NewReader(record[:n])
		for i := range 5 {
			cp, err := packets.ReadPacket(r)
			must(t, err)
			p.puback(cp.(*packets.PublishPacket).MessageID)
			if int(cp.(*packets.PublishPacket).MessageID) != i+1 {
				t.Errorf("packet %d has the identifier %d", i, cp.(*packets.PublishPacket).MessageID)
			}
		}
		p.quiet(time.Second)
		if st := l.Status(); st.Published != 5 {
			t.Errorf("%d are acknowledged", st.Published)
		}
		l.end(t, p)
	})
}

// PUBACKs may come in any order and repeatedly. Each message is reported once, in the
// order of sending.
func TestPubacksInAnyOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		first, second := l.queue.Publish("t", []byte("1")), l.queue.Publish("t", []byte("2"))
		p := b.accept(true)
		one, two := p.delivery("t", "1"), p.delivery("t", "2")
		p.puback(two)
		p.puback(two)
		synctest.Wait()
		if settled(second) != "" {
			t.Error("the second is told of before the first")
		}
		p.puback(one)
		synctest.Wait()
		if settled(first) != "acknowledged" || settled(second) != "acknowledged" || l.Status().Published != 2 {
			t.Errorf("status: %+v", l.Status())
		}
		l.end(t, p)
	})
}

// A large message does not wait for others, and its buffer is not kept.
func TestLargeMessagesLeaveNoRoomBehind(t *testing.T) {
	near, far := newPipe()
	s := &publisher{transport: newTransport(near, near)}
	s.write(1, Publication{Topic: "t", Payload: []byte("small")})
	if len(s.out) == 0 {
		t.Error("a small message does not wait for others")
	}
	s.write(2, Publication{Topic: "t", Payload: make([]byte, 3*recordBytes)})
	if len(s.out) != 0 || cap(s.out) > keptBytes {
		t.Errorf("%d bytes wait, of %d", len(s.out), cap(s.out))
	}
	for _, want := range []int{5, 3 * recordBytes} {
		cp, err := packets.ReadPacket(far)
		must(t, err)
		if m := cp.(*packets.PublishPacket); len(m.Payload) != want {
			t.Errorf("got %d bytes, want %d", len(m.Payload), want)
		}
	}
	must(t, near.Close())
	must(t, far.Close())
}

// A connection that fails during a write is detected, and the message is sent again.
func TestWriteToADeadConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		p := b.accept(false)
		synctest.Wait()
		p.reset()
		done := l.queue.Publish("t", []byte(strings.Repeat("x", 100<<10))) // more than the pipe takes
		p = b.accept(true)
		p.puback(p.delivery("t", strings.Repeat("x", 100<<10)))
		synctest.Wait()
		if settled(done) != "acknowledged" {
			t.Errorf("status: %+v", l.Status())
		}
		l.end(t, p)
	})
}

func TestUnsendable(t *testing.T) {
	long := strings.Repeat("x", 257)
	for topic, want := range map[string]string{
		"test/topic":                        "",
		"a/b/c/d/e/f/g/h":                   "",
		"a/b/c/d/e/f/g/h/i":                 "has 8 slashes, want at most 7",
		long[:256]:                          "",
		long:                                "257 bytes",
		"$aws/rules/rule/a/b/c/d/e/f/g/h":   "",
		"$aws/rules/rule/a/b/c/d/e/f/g/h/i": "has 8 slashes, want at most 7",
		"$aws/rules/rule/" + long[:250]:     "",
		"":                                  "is empty",
		"a/+/b":                             "wildcard",
		"#":                                 "wildcard",
		"a\x00b":                            "control characters",
		"\xff":                              "not valid UTF-8",
	} {
		if got := unsendable(Publication{Topic: topic}); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("topic %.20q: got %q, want %q", topic, got, want)
		}
	}
	if got := unsendable(Publication{Topic: "t", Payload: make([]byte, 128<<10)}); got != "" {
		t.Errorf("128 KB: %q", got)
	}
	if got := unsendable(Publication{Topic: "t", Payload: make([]byte, 128<<10+1)}); !strings.Contains(got, "131073 bytes") {
		t.Errorf("one more: %q", got)
	}
}

func TestUnsendableIsRefusedAndTheRestFlows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		big := l.queue.Publish("t", make([]byte, 128<<10+1))
		deep := l.queue.Publish("1/2/3/4/5/6/7/8/9", nil)
		l.queue.Publish("t", []byte("good"))
		p := b.accept(false)
		p.puback(p.delivery("t", "good"))
		synctest.Wait()
		if a, b := settled(big), settled(deep); !strings.Contains(a, "131073 bytes") || !strings.Contains(b, "slashes") {
			t.Errorf("got %q and %q", a, b)
		}
		l.end(t, p)
	})
}

// The broker acknowledges the second of three messages and hangs up.
func TestOnlyWhatWasAcknowledgedIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		one, two, three := l.queue.Publish("t", []byte("1")), l.queue.Publish("t", []byte("2")), l.queue.Publish("t", []byte("3"))
		p := b.accept(false)
		p.delivery("t", "1")
		id := p.delivery("t", "2")
		p.delivery("t", "3")
		p.puback(id)
		p.hangUp()
		p = b.accept(true)
		synctest.Wait()
		if a, b, c := settled(one), settled(two), settled(three); a != "" || b != "acknowledged" || c != "" {
			t.Errorf("messages are %q, %q, %q", a, b, c)
		}
		p.delivery("t", "1")
		p.delivery("t", "3")
		l.end(t, p)
	})
}
