package systemd

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// gate is a writer that takes nothing while it is shut.
type gate struct {
	mu    sync.Mutex // held while it is shut
	lines []string
}

func (g *gate) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, text, _ := strings.Cut(string(p), "  ") // the time is before it
	g.lines = append(g.lines, strings.TrimSpace(text))
	return len(p), nil
}

// blocked is a logger whose writer takes nothing until open is called.
func blocked() (log *slog.Logger, g *gate, open func()) {
	g = &gate{}
	shut := make(chan struct{})
	put := textPut(g)
	return slog.New(newHandler(slog.LevelInfo, func(r slog.Record, attrs []slog.Attr) func() {
		write := put(r, attrs)
		return func() {
			<-shut
			write()
		}
	})), g, func() { close(shut) }
}

// Where all is well a line is written when the call returns.
func TestLinesAreWrittenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, g, open := blocked()
		open()
		for i := range 2000 {
			log.Info("line", "n", i)
			if len(g.lines) != i+1 || g.lines[i] != fmt.Sprintf("line n=%d", i) {
				t.Fatalf("after %d: %q", i, g.lines[max(0, len(g.lines)-1):])
			}
		}
	})
}

// A journal that hangs holds up the first who logs for a moment, and nobody
// after that. What had room comes later, in order; the rest is counted.
func TestBlockedLogHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, g, open := blocked()
		began := time.Now()
		log.Info("line", "n", 0)
		if d := time.Since(began); d != writePatience {
			t.Errorf("the first line took %v", d)
		}
		const n = maxQueuedLines + 20
		for i := 1; i <= n; i++ {
			log.Info("line", "n", i)
		}
		if d := time.Since(began); d != writePatience {
			t.Errorf("all lines took %v", d)
		}
		open()
		synctest.Wait()
		if len(g.lines) != 1+maxQueuedLines+1 {
			t.Fatalf("%d lines", len(g.lines))
		}
		for i, got := range g.lines[:1+maxQueuedLines] {
			if got != fmt.Sprintf("line n=%d", i) {
				t.Fatalf("line %d is %q", i, got)
			}
		}
		if got := g.lines[1+maxQueuedLines]; got != "log lines were lost: the journal did not accept them lost=20" {
			t.Errorf("the last line is %q", got)
		}
		log.Info("line", "n", -1) // as before
		if got := g.lines[len(g.lines)-1]; got != "line n=-1" {
			t.Errorf("then comes %q", got)
		}
	})
}

// Of many who log at the same moment none waits longer than one.
func TestManyLogAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, g, open := blocked()
		began := time.Now()
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() { log.Info("line", "n", i) })
		}
		all.Wait()
		if d := time.Since(began); d != writePatience {
			t.Errorf("they waited %v", d)
		}
		open()
		synctest.Wait()
		if len(g.lines) != 50 {
			t.Errorf("%d lines", len(g.lines))
		}
	})
}
