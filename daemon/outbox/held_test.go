package outbox

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/config"
	"fieldpost/daemon/message"
	"fieldpost/daemon/records"
	"fieldpost/daemon/spool"
	"fieldpost/daemon/task"
	"fieldpost/daemon/uplink"
)

// gauged is an outbox that notes how much it has remembered at most.
type gauged struct {
	*boxed
	mu             sync.Mutex // a test looks while the link runs
	records, mails int
}

// Next implements [uplink.Outbox].
func (g *gauged) Next() (uplink.Publication, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	m, ok := g.boxed.Next()
	g.records, g.mails = max(g.records, len(g.out)), max(g.mails, len(g.sent))
	return m, ok
}

// Rewind implements [uplink.Outbox].
func (g *gauged) Rewind() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.boxed.Rewind()
}

// Hold implements [uplink.Outbox].
func (g *gauged) Hold(id uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.boxed.Hold(id)
}

// Ack implements [uplink.Outbox].
func (g *gauged) Ack(id uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.boxed.Ack(id)
}

// most gives the most records and mails that were remembered; left is how much
// is remembered now.
func (g *gauged) most() (records, mails, left int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.records, g.mails, len(g.out) + len(g.sent)
}

// However much mail is held because its topic is denied, nothing is remembered of
// it. When the topic is allowed all of it is delivered, in order; what is for
// other topics does not wait for that.
func TestHeldMailIsNotRemembered(t *testing.T) {
	const n, others = 100_000, 10
	for name, c := range map[string]struct {
		batch          config.Batch
		records, mails int // that may be remembered
	}{
		"one by one": {config.Batch{}, 40, 0},
		"in batches": {config.Batch{Max: 1000, Within: time.Second}, 40_000, 40},
	} {
		t.Run(name, func(t *testing.T) {
			b, files := newPicky(t)
			b.denied = "t/air"
			synctest.Test(t, func(t *testing.T) {
				x, end := fullBox(t, c.batch, n)
				g := &gauged{boxed: x}
				x.readings("soil", others)
				l, linking := b.link(t, files, g)
				<-time.After(3 * time.Hour)
				synctest.Wait()
				waiting := x.Spool.Stats().Samples.Pending
				if st := l.Status(); !st.Connected || st.Err == nil || len(b.has("soil")) != others || waiting != n {
					t.Errorf("held: %+v, others delivered %v, %d wait", st, b.has("soil"), waiting)
				}
				if records, mails, left := g.most(); records > c.records || mails > c.mails || left > 0 {
					t.Errorf("while held, %d records and %d mails were remembered, and %d still are", records, mails, left)
				}
				b.allow()
				<-time.After(2 * time.Hour)
				synctest.Wait()
				got := b.has("air")
				if !slices.IsSorted(got) || len(got) != n || got[n-1] != n || x.Spool.Stats().Samples.Pending != 0 {
					t.Errorf("%d of %d delivered, in order %v, %d wait", len(got), n, slices.IsSorted(got), x.Spool.Stats().Samples.Pending)
				}
				if records, mails, left := g.most(); records > c.records || mails > c.mails || left > 0 {
					t.Errorf("%d records and %d mails were remembered, and %d still are", records, mails, left)
				}
				if err := linking.Stop(time.Minute); err != nil {
					t.Error(err)
				}
				end()
			})
		})
	}
}

// fullBox makes an outbox on a spool that has n readings of air on disk.
func fullBox(t *testing.T, b config.Batch, n int) (x *boxed, end func()) {
	t.Helper()
	now := clock.Fake()
	o := spool.Options{Dir: t.TempDir(), AtRisk: time.Minute, Memory: 1 << 30, Clock: now}
	cfg := &config.Config{Thing: "thing", Readings: config.Readings{Topic: "t/{sensor}", Batch: b}}
	open := func() *boxed {
		s, err := records.Open(o)
		if err != nil {
			t.Fatal(err)
		}
		return &boxed{t: t, seq: map[string]uint64{}, Outbox: New(Options{Spool: s, Config: cfg, Clock: now, Acked: func(message.Record) {}})}
	}
	x = open()
	x.readings("air", n)
	if err := x.Spool.Close(); err != nil {
		t.Fatal(err)
	}
	o.Memory = 0
	x = open()
	keeping := task.Start("spool", make(chan error, 1), x.Spool.Run)
	return x, func() {
		if err := keeping.Stop(time.Minute); err != nil {
			t.Error(err)
		}
		if err := x.Spool.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Without a caller for every record, nothing is remembered, and an answer is kept all the
// same.
func TestNothingIsRememberedForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBoxed(t, "t", config.Batch{})
		x.Acked = nil
		kept, err := x.Spool.AppendKept(message.Record{Kind: message.Answer, Stamp: x.Clock.Now()})
		if err != nil {
			t.Fatal(err)
		}
		x.readings("air", 3)
		mail := x.want("all", "answer", "air", "air", "air")
		if len(x.out) != 0 {
			t.Errorf("%d records are remembered", len(x.out))
		}
		for _, m := range mail {
			x.Ack(m.ID)
		}
		if !closed(kept) || len(x.acked) != 0 || len(x.out) != 0 {
			t.Errorf("the answer is kept: %v; told of %q, %d remembered", closed(kept), x.acked, len(x.out))
		}
	})
}

// Nothing stays of what was held or refused, nor of what the spool has dropped
// since; and what was held comes again after a rewind.
func TestNothingStaysOfWhatIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBoxed(t, "t", config.Batch{Max: 100, Within: time.Minute})
		x.readings("air", 300)
		mail := x.all()
		x.Hold(mail[0].ID)
		x.Refuse(mail[1].ID, "refused")
		x.Ack(mail[2].ID)
		if len(x.out) != 0 || len(x.sent) != 0 || len(x.alone) != 100 {
			t.Errorf("%d records, %d mails, %d alone", len(x.out), len(x.sent), len(x.alone))
		}
		x.Rewind()
		if again := x.all(); len(again) != 101 || again[0].ID != mail[0].ID {
			t.Errorf("%d mails come again", len(again))
		}
		for range 200 { // each refused once, and then dropped by the spool
			x.readings("soil", 100)
			for _, m := range x.all() {
				ids := x.sent[m.ID]
				x.Refuse(m.ID, "refused")
				for _, id := range ids {
					x.Spool.Ack(id)
				}
			}
			if len(x.alone) > mostAlone || len(x.alone) < 100 {
				t.Fatalf("%d records are marked", len(x.alone))
			}
		}
	})
}
