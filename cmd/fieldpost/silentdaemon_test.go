package main

import (
	"bufio"
	"net"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// silentDaemon listens on a socket and does not answer.
type silentDaemon struct {
	listener net.Listener
	stays    bool          // does not close connections either
	asked    chan struct{} // a request has come
	calls    sync.WaitGroup
	mu       sync.Mutex
	open     []net.Conn
}

func (d *silentDaemon) run() {
	for {
		c, err := d.listener.Accept()
		if err != nil {
			return
		}
		d.mu.Lock()
		d.open = append(d.open, c)
		d.mu.Unlock()
		d.calls.Go(func() {
			if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
				return
			}
			d.asked <- struct{}{}
			if !d.stays {
				c.Close()
			}
		})
	}
}

// silentDaemons returns two commands. "silent-daemon PATH hangs-up|stays-silent" makes
// such a socket until the script ends. "asked" waits until the last one has received a
// request.
func silentDaemons() (start, asked func(*testscript.TestScript, bool, []string)) {
	var mu sync.Mutex
	last := map[string]*silentDaemon{} // by the script's directory
	start = func(ts *testscript.TestScript, _ bool, args []string) {
		if len(args) != 2 {
			ts.Fatalf("usage: silent-daemon PATH hangs-up|stays-silent")
		}
		l, err := net.Listen("unix", ts.MkAbs(args[0]))
		ts.Check(err)
		d := &silentDaemon{listener: l, stays: args[1] == "stays-silent", asked: make(chan struct{}, 8)}
		done := make(chan struct{})
		go func() { defer close(done); d.run() }()
		ts.Defer(func() {
			l.Close()
			<-done
			for _, c := range d.open {
				c.Close()
			}
			d.calls.Wait()
		})
		mu.Lock()
		defer mu.Unlock()
		last[ts.Getenv("WORK")] = d
	}
	asked = func(ts *testscript.TestScript, _ bool, _ []string) {
		mu.Lock()
		d := last[ts.Getenv("WORK")]
		mu.Unlock()
		select {
		case <-d.asked:
		case <-time.After(time.Minute):
			ts.Fatalf("no request came")
		}
	}
	return start, asked
}
