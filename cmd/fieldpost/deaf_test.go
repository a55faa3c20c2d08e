package main

import (
	"bufio"
	"net"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// deaf is a socket whose daemon does not answer.
type deaf struct {
	listener net.Listener
	stays    bool          // and does not hang up either
	asked    chan struct{} // a request has come
	calls    sync.WaitGroup
	mu       sync.Mutex
	open     []net.Conn
}

func (d *deaf) run() {
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

// deafDaemons are the commands "deaf-daemon PATH hangs-up|stays-silent", which
// makes such a socket until the script ends, and "asked", which waits until the
// one made last has a request.
func deafDaemons() (start, asked func(*testscript.TestScript, bool, []string)) {
	var mu sync.Mutex
	last := map[string]*deaf{} // by the script's directory
	start = func(ts *testscript.TestScript, _ bool, args []string) {
		if len(args) != 2 {
			ts.Fatalf("usage: deaf-daemon PATH hangs-up|stays-silent")
		}
		l, err := net.Listen("unix", ts.MkAbs(args[0]))
		ts.Check(err)
		d := &deaf{listener: l, stays: args[1] == "stays-silent", asked: make(chan struct{}, 8)}
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
			ts.Fatalf("nobody asks")
		}
	}
	return start, asked
}
