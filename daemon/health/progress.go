package health

import (
	"sync"
	"time"
)

// Progress is proof that the daemon's loops turn. Each loop that never blocks
// by design registers a [Loop] and turns it at least every few seconds; the
// watchdog is fed only when all of them have turned since it was last fed.
type Progress struct {
	mu    sync.Mutex
	loops []*Loop
}

// Loop is one loop's proof.
type Loop struct {
	name   string
	p      *Progress
	turned bool
	ended  bool
	last   time.Time // when it last turned
}

// Loop registers a loop. Any goroutine.
func (p *Progress) Loop(name string) *Loop {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := &Loop{name: name, p: p, turned: true, last: time.Now()}
	p.loops = append(p.loops, l)
	return l
}

// Turn says that the loop went round. It may be called on a nil Loop.
func (l *Loop) Turn() {
	if l != nil {
		rehearse(l.name)
	}
	l.set(true, false)
}

// End says that the loop has ended in good order and is not to be waited for.
// It may be called on a nil Loop.
func (l *Loop) End() { l.set(true, true) }

func (l *Loop) set(turned, ended bool) {
	if l == nil {
		return
	}
	l.p.mu.Lock()
	l.turned, l.ended, l.last = turned, ended, time.Now()
	l.p.mu.Unlock()
}

// Take reports whether every loop has turned since Take last succeeded, and
// otherwise names one that has not.
func (p *Progress) Take() (stuck string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.loops {
		if !l.turned {
			return l.name, false
		}
	}
	for _, l := range p.loops {
		l.turned = l.ended
	}
	return "", true
}

// Idle names the loop that has not turned for the longest, and for how long;
// loops that have ended are left out. With none it gives "" and 0.
func (p *Progress) Idle() (loop string, idle time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.loops {
		if d := time.Since(l.last); !l.ended && (loop == "" || d > idle) {
			loop, idle = l.name, d
		}
	}
	return loop, idle
}
