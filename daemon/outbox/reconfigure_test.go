package outbox

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/config"
	"fieldpost/daemon/message"
	"fieldpost/daemon/uplink"
)

// topicsOf gives the topics of mails.
func topicsOf(mail []uplink.Publication) (topics []string) {
	for _, m := range mail {
		topics = append(topics, m.Topic)
	}
	return topics
}

// What waits in the spool goes by the new configuration; a batch that was begun goes at
// once, to its own topic, and ahead of what came after it. Whatever is turned on or off,
// a sensor's readings stay in their order, and each goes once.
func TestReconfigure(t *testing.T) {
	type batch = config.Batch
	for name, c := range map[string]struct {
		before, after batch
		want          []string // of the mails after, in their order
		topics        []string
	}{
		"batches on":    {batch{}, batch{Max: 10, Within: time.Hour}, nil, nil},
		"batches off":   {batch{Max: 10, Within: time.Hour}, batch{}, []string{"air 1 2", "air", "air"}, []string{"old/air", "new/air", "new/air"}},
		"shorter":       {batch{Max: 10, Within: time.Hour}, batch{Max: 2, Within: time.Hour}, []string{"air 1 2", "air 3 4"}, []string{"old/air", "new/air"}},
		"longer":        {batch{Max: 3, Within: time.Hour}, batch{Max: 10, Within: time.Hour}, []string{"air 1 2"}, []string{"old/air"}},
		"never batches": {batch{}, batch{}, []string{"air", "air"}, []string{"new/air", "new/air"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newBoxed(t, "old/{sensor}", c.before)
				x.readings("air", 2)
				first := x.all()
				next := *x.Config
				next.Readings.Topic, next.Readings.Batch = "new/{sensor}", c.after
				x.readings("air", 2)
				for len(x.Ready()) > 0 {
					<-x.Ready()
				}
				x.Reconfigure(&next)
				select {
				case <-x.Ready():
				default:
					t.Error("nobody is woken")
				}
				mail := x.all()
				if got := content(t, mail); !slices.Equal(got, c.want) {
					t.Errorf("mails %q, want %q", got, c.want)
				}
				if got := topicsOf(mail); !slices.Equal(got, c.topics) {
					t.Errorf("topics %q, want %q", got, c.topics)
				}
				x.Flush()
				for _, m := range slices.Concat(first, mail, x.all()) {
					x.Ack(m.ID)
				}
				if !slices.Equal(x.acked, []string{"air1", "air2", "air3", "air4"}) {
					t.Errorf("acknowledged: %q", x.acked)
				}
			})
		})
	}
}

// A record that was taken from the spool and had to wait gets the new topic.
func TestReconfigureOfWhatIsAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBoxed(t, "old/{sensor}", config.Batch{Max: 10, Within: time.Hour})
		x.put(message.Edge, "door", "")
		x.put(message.Edge, "gate", "")
		m, ok := x.Next()
		if !ok || m.Topic != "old/door" || x.ahead == nil {
			t.Fatalf("first: %v, %v, ahead %v", m.Topic, ok, x.ahead)
		}
		next := *x.Config
		next.Readings.Topic = "new/{sensor}"
		x.Reconfigure(&next)
		if mail := x.all(); !slices.Equal(topicsOf(mail), []string{"new/gate"}) {
			t.Errorf("topics %q", topicsOf(mail))
		}
	})
}

// The uplink goes on meanwhile, and a rewind takes the new configuration too.
func TestReconfigureAtAnyTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBoxed(t, "0/{sensor}", config.Batch{Max: 3, Within: time.Hour})
		configs := []config.Config{*x.Config, *x.Config}
		configs[1].Readings.Topic, configs[1].Readings.Batch = "1/{sensor}", config.Batch{}
		x.readings("air", 100)
		var turns sync.WaitGroup
		turns.Go(func() {
			for i := range 200 {
				x.Reconfigure(&configs[i%2])
			}
		})
		n := 0
		for n < 100 {
			m, ok := x.Next()
			if !ok {
				x.Flush()
				continue
			}
			n += len(x.sent[m.ID])
			if len(x.sent[m.ID]) == 0 {
				n++
			}
		}
		turns.Wait()
		x.Rewind()
		if m, ok := x.Next(); !ok || m.Topic != "1/air" {
			t.Errorf("after a rewind: %q, %v", m.Topic, ok)
		}
	})
}

// The values of a record that are being given go where they began to; then comes what
// the new configuration wants, and each record is acknowledged once.
func TestReconfigureOfPlainValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBoxed(t, "old/{sensor}/{quantity}", config.Batch{})
		x.values(message.Reading, "air", 1.0, 2.0)
		x.values(message.Reading, "air", 3.0, 4.0)
		first, ok := x.Next()
		if !ok {
			t.Fatal("nothing comes")
		}
		next := *x.Config
		next.Readings.Topic, next.Readings.Batch = "new/{sensor}", config.Batch{Max: 2, Within: time.Hour}
		x.Reconfigure(&next)
		x.values(message.Reading, "air", 5.0, 6.0)
		mail := append([]uplink.Publication{first}, x.all()...)
		if got := topicsOf(mail); !slices.Equal(got, []string{"old/air/a", "old/air/b", "new/air"}) {
			t.Errorf("topics %q", got)
		}
		for _, m := range mail {
			x.Ack(m.ID)
		}
		if !slices.Equal(x.acked, []string{"air1", "air2", "air3"}) {
			t.Errorf("acknowledged: %q", x.acked)
		}
	})
}

// Samples wait for others as long as the configuration says, from the start and after
// another one has come.
func TestReconfigureLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBoxed(t, "{sensor}", config.Batch{})
		told := func() bool {
			synctest.Wait()
			select {
			case <-x.Ready():
				return true
			default:
				return false
			}
		}
		told()
		for _, linger := range []time.Duration{0, 50 * time.Millisecond, 200 * time.Millisecond, 0} {
			next := *x.Config
			next.Readings.Linger = linger
			x.Reconfigure(&next)
			x.all()
			told()
			x.readings("air", 3)
			if linger > 0 {
				<-time.After(linger - 1)
				if told() {
					t.Errorf("%v: told too early", linger)
				}
				<-time.After(1)
			}
			if !told() {
				t.Errorf("%v: not told", linger)
			}
			x.all()
		}
	})
}
