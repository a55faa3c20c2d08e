package daemon

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/config"
)

// A disk that does not return the file is given up after a while, and not asked again before
// it has answered; a reader that panics is an error of the file.
func TestReadingTheConfigurationAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan *config.Config)
		var asked atomic.Int32
		d := &Daemon{stopping: t.Context()}
		d.log = slog.New(slog.DiscardHandler)
		d.present.Store(&generation{config: &config.Config{File: "a.yaml"}})
		d.o.LoadConfig = func() (*config.Config, error) {
			asked.Add(1)
			return <-answer, nil
		}
		begin := time.Now()
		for _, want := range []string{"a.yaml: the disk did not return it in 5s", "a.yaml: the last reload has not been able to read it yet"} {
			if _, err := d.loadAgain(); err == nil || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("got %v, want %s", err, want)
			}
		}
		if took := time.Since(begin); took != filesPatience || asked.Load() != 1 {
			t.Errorf("asked %d times, in %v", asked.Load(), took)
		}
		answer <- nil // too late
		synctest.Wait()
		good := &config.Config{}
		go func() { answer <- good }()
		if c, err := d.loadAgain(); c != good || err != nil {
			t.Errorf("once the disk answers: %v, %v", c, err)
		}
		synctest.Wait()
		d.o.LoadConfig = func() (*config.Config, error) { panic("a mistake of ours") }
		var problems config.Errors
		if _, err := d.loadAgain(); !errors.As(err, &problems) || !strings.Contains(err.Error(), "a mistake of ours") {
			t.Errorf("a panic: %v", err)
		}
		synctest.Wait()
		d.o.LoadConfig = nil
		if _, err := d.loadAgain(); !errors.As(err, &problems) {
			t.Errorf("no file: %v", err)
		}
		ended, end := context.WithCancel(t.Context())
		end()
		d.stopping, d.o.LoadConfig = ended, func() (*config.Config, error) { return <-answer, nil }
		if _, err := d.loadAgain(); !errors.Is(err, ErrStopping) {
			t.Errorf("while stopping: %v", err)
		}
		answer <- nil
	})
}

// Who asks again at once is not told that the reader before hangs. Many at a time, so that
// a reader is interrupted after its answer.
func TestReadingTheConfigurationAtOnce(t *testing.T) {
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			d := &Daemon{stopping: t.Context()}
			d.present.Store(&generation{config: &config.Config{File: "a.yaml"}})
			d.o.LoadConfig = func() (*config.Config, error) { return &config.Config{}, nil }
			for range 2000 {
				if _, err := d.loadAgain(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}
