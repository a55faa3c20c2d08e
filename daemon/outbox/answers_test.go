package outbox

import (
	"testing"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/command"
	"fieldpost/daemon/config"
	"fieldpost/daemon/records"
	"fieldpost/daemon/spool"
)

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// What the broker acknowledges reaches who waits for it, also when the time of
// the answer was filled in on its way. That of another order, or of the same order
// once more, says nothing.
func TestAnswerOnItsWay(t *testing.T) {
	c := clock.Fake()
	s, err := records.Open(spool.Options{Dir: t.TempDir(), AtRisk: time.Hour, MaxBytes: 1 << 20, Clock: c})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	box := New(Options{Spool: s, Config: &config.Config{Thing: "t"}, Clock: c})
	stamp := c.Now()
	stamp.Synced = false
	var kept []<-chan struct{}
	for _, id := range []string{"a", "b", "a"} {
		k, err := s.AppendKept(command.Answer{ID: id, Status: command.Done, Output: "pump", Stamp: stamp}.Record())
		if err != nil || k == nil {
			t.Fatal(k, err)
		}
		kept = append(kept, k)
	}
	for i := range kept {
		m, ok := box.Next()
		if !ok || closed(kept[i]) {
			t.Fatalf("mail %v, kept %v", ok, closed(kept[i]))
		}
		if box.Ack(m.ID); !closed(kept[i]) {
			t.Errorf("the broker has %s, and it is not kept", m.Payload)
		}
	}
}
