package outbox

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/command"
	"fieldpost/daemon/config"
	"fieldpost/daemon/message"
	"fieldpost/daemon/records"
	"fieldpost/daemon/spool"
)

// reply is an answer as a record.
func reply(id string, mono time.Duration) message.Record {
	return command.Answer{ID: id, Status: command.Done, Output: "pump", Stamp: clock.Stamp{Boot: "b", Mono: mono}}.Record()
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// An answer is kept when the broker has it, or else when the spool has had the
// time to write it. That of another order, or of another decision on the same,
// says nothing.
func TestAnswersAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a Answers
		first, other := a.Await(reply("a", 1), 6*time.Second), a.Await(reply("b", 1), 9*time.Second)
		a.Arrived(reply("c", 1))
		a.Arrived(reply("a", 2))
		if closed(first) || closed(other) {
			t.Fatal("kept by what has arrived of others")
		}
		second := a.Await(reply("a", 1), 9*time.Second)
		a.Arrived(reply("a", 1))
		if !closed(first) || !closed(second) || closed(other) {
			t.Error("an answer arrived that was given twice: not both are kept, or another is")
		}
		a.Arrived(reply("a", 1)) // the second of the two
		later := a.Await(reply("a", 1), 6*time.Second)
		<-time.After(6*time.Second - 1)
		if synctest.Wait(); closed(later) {
			t.Error("kept before its time")
		}
		<-time.After(1)
		if synctest.Wait(); !closed(later) || closed(other) {
			t.Error("not kept by its time, or another is")
		}
		<-time.After(3 * time.Second)
		if synctest.Wait(); !closed(other) || len(a.open) != 0 {
			t.Errorf("%d are still waited for", len(a.open))
		}
	})
}

// However many answers do not arrive, so many are waited for and no more.
func TestAnswersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a Answers
		for i := range mostAnswers {
			if a.Await(reply(fmt.Sprint(i), 1), time.Minute) == nil {
				t.Fatalf("answer %d is not waited for", i)
			}
		}
		if a.Await(reply("more", 1), time.Minute) != nil || len(a.open) != mostAnswers {
			t.Errorf("%d are waited for", len(a.open))
		}
		a.Arrived(reply("0", 1))
		if a.Await(reply("more", 1), time.Minute) == nil {
			t.Error("there was room again")
		}
		<-time.After(time.Minute)
		if synctest.Wait(); len(a.open) != 0 {
			t.Errorf("%d are still waited for", len(a.open))
		}
	})
}

// The spool has an answer on disk when the wait for its arrival is over, so
// that a power cut then does not cost it.
func TestAnswersAreDurableWhenKept(t *testing.T) {
	for _, atRisk := range []time.Duration{0, time.Second, 5 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			s, err := records.Open(spool.Options{Dir: t.TempDir(), AtRisk: atRisk, MaxBytes: 1 << 20, Clock: clock.Fake()})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- s.Run(ctx) }()
			if err := s.Append(reply("a", 1)); err != nil {
				t.Fatal(err)
			}
			<-time.After(DurableAfter(atRisk))
			synctest.Wait()
			if b := s.Backlog(); b.AtRisk != 0 {
				t.Errorf("at_risk %v: %d at risk after %v", atRisk, b.AtRisk, DurableAfter(atRisk))
			}
			cancel()
			if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	if d := DurableAfter(10 * time.Minute); d > longestAnswer {
		t.Errorf("an order may wait for %v", d)
	}
}

// What the broker acknowledges reaches who waits for it, also when the time of
// the answer was filled in on its way.
func TestAnswerOnItsWay(t *testing.T) {
	c := clock.Fake()
	s, err := records.Open(spool.Options{Dir: t.TempDir(), AtRisk: time.Hour, MaxBytes: 1 << 20, Clock: c})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	var a Answers
	box := New(Options{Spool: s, Config: &config.Config{Thing: "t"}, Clock: c, Answers: &a})
	stamp := c.Now()
	stamp.Synced = false
	r := command.Answer{ID: "a", Status: command.Done, Stamp: stamp}.Record()
	kept := a.Await(r, time.Hour)
	if err := s.Append(r); err != nil {
		t.Fatal(err)
	}
	m, ok := box.Next()
	if !ok || closed(kept) {
		t.Fatalf("mail %v, kept %v", ok, closed(kept))
	}
	if box.Ack(m.ID); !closed(kept) {
		t.Errorf("the broker has %s, and it is not kept", m.Payload)
	}
}
