package daemon

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
)

// says is the paper's text.
func (p *paper) says() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var lines []string
	for _, e := range p.entries {
		lines = append(lines, string(e))
	}
	return strings.Join(lines, "\n")
}

// subscribing runs a configuration's subscriptions until it is stopped.
func subscribing(p *paper, client string, wanted ...string) (s *subscriptions, stop func()) {
	s = newSubscriptions(client, wanted, p, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.run(ctx) }()
	synctest.Wait()
	return s, func() {
		cancel()
		if err := <-done; err != nil {
			panic(err)
		}
	}
}

// What is remembered is what each session may hold, the newest first; it is written
// when it has changed and not otherwise.
func TestSubscriptionsAreRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &paper{}
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
			if stale = s.stale(); !slices.Equal(stale, strings.Fields(c.stale)) || p.says() != c.says || p.written != c.written {
				t.Errorf("%s on %q: stale %q, written %d times:\n%s\nwant %q, %d:\n%s", c.client, c.wanted, stale, p.written, p.says(), c.stale, c.written, c.says)
			}
		}
		s, stop := subscribing(p, "a", "t2")
		s.released("t1")
		synctest.Wait()
		if want := `{"client_id":"a","filters":["t2"]}` + "\n" + `{"client_id":"b","filters":["t2"]}`; p.says() != want {
			t.Errorf("after one was given up:\n%s\nwant\n%s", p.says(), want)
		}
		stop()
		s, stop = subscribing(p, "a")
		s.released("t2")
		stop()
		if want := `{"client_id":"b","filters":["t2"]}`; p.says() != want {
			t.Errorf("after all was given up:\n%s\nwant\n%s", p.says(), want)
		}
	})
}

// However often a configuration changes, and whatever stands in it or in the file,
// what is remembered stays small.
func TestSubscriptionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &paper{entries: [][]byte{[]byte("rubbish"), []byte(`{}`), []byte(`{"client_id":7}`), []byte("{\"client_id\":\"\xff\"}"),
			[]byte(`{"client_id":"a","filters":["","` + strings.Repeat("x", longestName+1) + `"]}`),
			[]byte(`{"client_id":"` + strings.Repeat("x", longestName+1) + `","filters":["t"]}`)}}
		for i := range 40 {
			_, stop := subscribing(p, "a", fmt.Sprint("t", i))
			stop()
			_, stop = subscribing(p, fmt.Sprint("c", i), "t", strings.Repeat("x", longestName+1))
			stop()
		}
		if len(p.entries) != mostClients || len(p.says()) > 4096 {
			t.Errorf("%d entries, %d bytes", len(p.entries), len(p.says()))
		}
		s, stop := subscribing(p, "a")
		stop()
		if got := s.stale(); len(got) != mostFilters || got[0] != "t39" {
			t.Errorf("stale: %q", got)
		}
	})
}

// A disk that fails is tried again, and what could not be read at the start is not
// written over.
func TestSubscriptionsOnADiskThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := []byte(`{"client_id":"a","filters":["t1"]}`)
		p := &paper{entries: [][]byte{before}}
		p.fail(errors.New("no disk"), errors.New("no disk"))
		s, stop := subscribing(p, "a", "t2")
		if len(s.stale()) != 0 {
			t.Errorf("stale: %q", s.stale())
		}
		p.fail(nil, errors.New("read-only"))
		<-time.After(timesRetry)
		synctest.Wait()
		p.fail(nil, nil)
		<-time.After(timesRetry)
		synctest.Wait()
		if want := `{"client_id":"a","filters":["t2","t1"]}`; p.says() != want || p.written != 1 {
			t.Errorf("written %d times: %s, want %s", p.written, p.says(), want)
		}
		stop()
	})
}
