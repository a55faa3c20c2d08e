package outbox

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/config"
	"fieldpost/daemon/message"
	"fieldpost/daemon/records"
	"fieldpost/daemon/spool"
	"fieldpost/daemon/task"
)

// The broker allows the topics of the thing's new name only. What was taken under
// the old one is held, and named; the rest goes on. It is delivered when the old
// topic is allowed, and given up when it is too old, as all mail is.
func TestTheOldNamesTopicIsDenied(t *testing.T) {
	for name, allowed := range map[string]bool{"allowed later": true, "never allowed": false} {
		t.Run(name, func(t *testing.T) {
			b, files := newPicky(t)
			b.denied = "t/east/air"
			synctest.Test(t, func(t *testing.T) {
				now, dir := clock.Fake(), t.TempDir()
				open := func(thing string) *boxed {
					s, err := records.Open(spool.Options{Dir: dir, Thing: thing, AtRisk: time.Second, MaxAge: 4 * time.Hour, Clock: now})
					if err != nil {
						t.Fatal(err)
					}
					cfg := &config.Config{Thing: thing, Readings: config.Readings{Topic: "t/{thing}/{sensor}"}}
					return &boxed{t: t, seq: map[string]uint64{}, Outbox: New(Options{Spool: s, Config: cfg, Clock: now, Acked: func(message.Record) {}})}
				}
				x := open("east")
				x.readings("air", 50)
				if err := x.Spool.Close(); err != nil {
					t.Fatal(err)
				}
				x = open("west")
				keeping := task.Start("spool", make(chan error, 1), x.Spool.Run)
				x.readings("air", 60)
				l, linking := b.link(t, files, x)
				<-time.After(2 * time.Hour)
				synctest.Wait()
				st, pending := l.Status(), x.Spool.Stats().Samples.Pending
				if st.Err == nil || !strings.Contains(st.Err.Error(), "t/east/air") || pending != 50 || len(b.has("air")) != 60 {
					t.Errorf("held: %d wait, %d delivered, %v", pending, len(b.has("air")), st.Err)
				}
				want := 60
				if allowed {
					b.allow()
					want = 110
				}
				<-time.After(6 * time.Hour)
				synctest.Wait()
				if n := x.Spool.Stats(); n.Samples.Pending != 0 || len(b.has("air")) != want || (n.Dropped > 0) == allowed {
					t.Errorf("after all: %d delivered, %+v", len(b.has("air")), n)
				}
				if err := linking.Stop(time.Minute); err != nil {
					t.Error(err)
				}
				if err := keeping.Stop(time.Minute); err != nil {
					t.Error(err)
				}
				if err := x.Spool.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
