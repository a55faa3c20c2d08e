package main

import (
	"context"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// A storm of SIGHUP reloads once a second; the last one is not lost, and the end waits for
// no pause.
func TestStormOfHangups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangups, reloads := make(chan os.Signal, 1), 0
		stop := reloadOn(hangups, func(context.Context) { reloads++ })
		for range 5000 { // in five seconds
			select {
			case hangups <- syscall.SIGHUP:
			default: // as package os/signal does
			}
			<-time.After(time.Millisecond)
		}
		<-time.After(time.Minute)
		if reloads < 5 || reloads > 6 {
			t.Errorf("%d reloads, want one a second", reloads)
		}
		before := reloads
		hangups <- syscall.SIGHUP
		synctest.Wait()
		if reloads != before+1 {
			t.Error("a single one waits")
		}
		began := time.Now()
		stop()
		if time.Since(began) != 0 {
			t.Error("the end waits")
		}
	})
}
