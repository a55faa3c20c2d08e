package command

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/journal"
)

// An order acts only once even if somebody removes the ledger, or the whole spool
// directory, after the act, and the order is repeated after a kill or a stop: the spool
// writes the journal again. [CMD-4]
func TestLedgerOutlivesItsDirectory(t *testing.T) {
	for name, remove := range map[string]func(dir string) error{
		"the directory": os.RemoveAll,
		"the journal":   func(dir string) error { return os.Remove(filepath.Join(dir, "orders.journal")) },
		"the parent":    func(dir string) error { return os.RemoveAll(filepath.Dir(dir)) },
		"renamed":       func(dir string) error { return os.Rename(dir, dir+".old") },
	} {
		for _, stopped := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "lib", "spool")
				j, s := opened(t, dir)
				ctx, cancel := context.WithCancel(context.Background())
				ended := make(chan error, 1)
				go func() { ended <- s.Run(ctx) }()
				run := newLedgerRun(t, j, clock.Fake())
				text := order("a", "pump", "on", time.Minute)
				run.gets(text, Done, "", 1)
				if err := remove(dir); err != nil {
					t.Fatal(err)
				}
				if !stopped {
					s.Verify()
					<-time.After(5 * time.Second)
				}
				killed := filepath.Join(t.TempDir(), "killed")
				if !stopped {
					if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
						t.Error(name, err)
					}
				}
				run.stop()
				cancel()
				if err := <-ended; err != nil {
					t.Error(name, err)
				}
				if err := s.Close(); err != nil {
					t.Error(name, err)
				}
				if stopped {
					killed = dir
				}
				j, s = opened(t, killed)
				next := newLedgerRun(t, j, clock.Fake())
				next.gets(text, Done, "", 0)
				next.want()
				next.stop()
				if err := s.Close(); err != nil {
					t.Error(name, err)
				}
			})
		}
	}
}

var _ journal.Storage = (*journal.File)(nil)
