package uplink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/journal/journaltest"
)

// subscribing runs the subscription log of a configuration until stop is called.
func subscribing(p *journaltest.Storage, client string, wanted ...string) (s *SubscriptionLog, stop func()) {
	s = NewSubscriptionLog(client, wanted, p, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	synctest.Wait()
	return s, func() {
		cancel()
		if err := <-done; err != nil {
			panic(err)
		}
	}
}

// The log has the filters that each session may have, newest first, and is written only
// when it has changed.
func TestSubscriptionsAreRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &journaltest.Storage{}
		var stale []string
		for _, c := range []struct {
			client, wanted, stale, says string
			written                     int
		}{
			{"a", "t1", "", `{"client_id":"a","filters":["t1"]}`, 1},
			{"a", "t1", "", `{"client_id":"a","filters":["t1"]}`, 1},
			{"a", "t2", "t1", `{"client_id":"a","filters":["t2","t1"]}`, 2},
			{"b", "t2", "", `{"client_id":"b","filters":["t2"]}` + "\n" + `{"client_id":"a","filters":["t2","t1"]}`, 3},
			{"a", "", "t2 t1", `{"client_id":"a","filters":["t2","t1"]}` + "\n" + `{"client_id":"b","filters":["t2"]}`, 4},
		} {
			s, stop := subscribing(p, c.client, strings.Fields(c.wanted)...)
			stop()
			if stale = s.Stale(); !slices.Equal(stale, strings.Fields(c.stale)) || p.Text() != c.says || p.Written() != c.written {
				t.Errorf("%s on %q: stale %q, written %d times:\n%s\nwant %q, %d:\n%s", c.client, c.wanted, stale, p.Written(), p.Text(), c.stale, c.written, c.says)
			}
		}
		s, stop := subscribing(p, "a", "t2")
		s.Released("t1")
		synctest.Wait()
		if want := `{"client_id":"a","filters":["t2"]}` + "\n" + `{"client_id":"b","filters":["t2"]}`; p.Text() != want {
			t.Errorf("after one was given up:\n%s\nwant\n%s", p.Text(), want)
		}
		stop()
		s, stop = subscribing(p, "a")
		s.Released("t2")
		stop()
		if want := `{"client_id":"b","filters":["t2"]}`; p.Text() != want {
			t.Errorf("after all was given up:\n%s\nwant\n%s", p.Text(), want)
		}
	})
}

// The log stays small, however often a configuration changes, and whatever it or the file
// contains.
func TestSubscriptionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := journaltest.New("rubbish", `{}`, `{"client_id":7}`, "{\"client_id\":\"\xff\"}",
			`{"client_id":"a","filters":["","`+strings.Repeat("x", longestName+1)+`"]}`,
			`{"client_id":"`+strings.Repeat("x", longestName+1)+`","filters":["t"]}`)
		for i := range 40 {
			_, stop := subscribing(p, "a", fmt.Sprint("t", i))
			stop()
			_, stop = subscribing(p, fmt.Sprint("c", i), "t", strings.Repeat("x", longestName+1))
			stop()
		}
		if n := strings.Count(p.Text(), "\n") + 1; n != mostClients || len(p.Text()) > 4096 {
			t.Errorf("%d entries, %d bytes", n, len(p.Text()))
		}
		s, stop := subscribing(p, "a")
		stop()
		if got := s.Stale(); len(got) != mostFilters || got[0] != "t39" {
			t.Errorf("stale: %q", got)
		}
	})
}

// A failed write is retried, and a file that could not be read at the start is not
// overwritten.
func TestSubscriptionsOnADiskThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := journaltest.New(`{"client_id":"a","filters":["t1"]}`)
		p.Fail(errors.New("no disk"), errors.New("no disk"))
		s, stop := subscribing(p, "a", "t2")
		if len(s.Stale()) != 0 {
			t.Errorf("stale: %q", s.Stale())
		}
		p.Fail(nil, errors.New("read-only"))
		<-time.After(logRetry)
		synctest.Wait()
		p.Fail(nil, nil)
		<-time.After(logRetry)
		synctest.Wait()
		if want := `{"client_id":"a","filters":["t2","t1"]}`; p.Text() != want || p.Written() != 1 {
			t.Errorf("written %d times: %s, want %s", p.Written(), p.Text(), want)
		}
		stop()
	})
}
