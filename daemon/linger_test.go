package daemon_test

import (
	"testing"
	"time"

	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/message"
)

// A reading waits for others that are due with it, and for nothing else: when the last of them
// has been read they leave, however long readings.linger is.
func TestReadingsLeaveWithTheLastOfTheirTick(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	cfg := s.Config("", "")
	cfg.Readings.Linger = time.Hour
	r := s.Start(cfg).AwaitLink(t)
	// The link looks by itself every 2 s, for what waits then: every twentieth reading
	// would be acknowledged before the next is taken.
	const readings, atLeast = 30, 6
	end := time.NewTimer(daemontest.Patience)
	defer end.Stop()
	prompt := 0
	for latest := uint64(0); latest < readings; {
		select {
		case x := <-r.Taken:
			if x.Kind == message.Reading {
				latest = x.Seq
			}
		case x := <-r.Acked:
			if x.Kind == message.Reading && x.Seq == latest {
				prompt++
			}
		case <-end.C:
			t.Fatalf("%d readings after %v", latest, daemontest.Patience)
		}
	}
	if prompt < atLeast {
		t.Errorf("of %d readings %d were acknowledged before the next was taken, want %d at least", readings, prompt, atLeast)
	}
}
