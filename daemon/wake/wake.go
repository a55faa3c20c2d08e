// Package wake wakes a goroutine that has something to do, without waiting for it.
package wake

// Signal wakes one goroutine. Set marks the signal and never blocks; a receive from
// C returns once for any number of calls of Set before it. So a Signal carries no
// data: the sender stores what there is to do first, for example under a mutex, and
// then calls Set; the receiver, once woken, looks for all there is.
//
// Make a Signal with [New]. Copies are the same signal. All methods may be called
// from any goroutine. Set and Clear do nothing on the zero Signal, and its C blocks
// forever.
type Signal struct{ c chan struct{} }

// New returns a signal that is not set.
func New() Signal { return Signal{make(chan struct{}, 1)} }

// Set wakes the goroutine that receives from C, or the next one that does.
func (s Signal) Set() {
	select {
	case s.c <- struct{}{}:
	default:
	}
}

// C returns the channel to receive from. A receive clears the signal. The channel
// is never closed.
func (s Signal) C() <-chan struct{} { return s.c }

// Clear takes back a Set that nobody has received. Call it where the work that is
// about to begin covers what was asked for so far.
func (s Signal) Clear() {
	select {
	case <-s.c:
	default:
	}
}
