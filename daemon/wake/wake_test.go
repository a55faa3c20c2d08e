package wake

import (
	"sync"
	"testing"
	"testing/synctest"
)

func isSet(s Signal) bool {
	select {
	case <-s.C():
		return true
	default:
		return false
	}
}

func TestSetIsReceivedOnce(t *testing.T) {
	s := New()
	if isSet(s) {
		t.Error("a new signal is set")
	}
	s.Set()
	s.Set() // does not block
	if !isSet(s) {
		t.Error("not set after Set")
	}
	if isSet(s) {
		t.Error("two calls of Set were received twice")
	}
	s.Set()
	if !isSet(s) {
		t.Error("not set again after it was received")
	}
}

func TestClear(t *testing.T) {
	s := New()
	s.Clear() // does not block
	s.Set()
	s.Clear()
	if isSet(s) {
		t.Error("set after Clear")
	}
}

func TestZeroSignalNeverWakes(t *testing.T) {
	var s Signal
	s.Set()
	s.Clear()
	if isSet(s) {
		t.Error("the zero signal was received")
	}
}

func TestCopiesAreOneSignal(t *testing.T) {
	s := New()
	other := s
	other.Set()
	if !isSet(s) {
		t.Error("a Set of a copy was not received")
	}
}

// Whatever a sender stored before Set is seen by a receiver that looks after it was
// woken: no work is left behind while the receiver sleeps.
func TestNoWorkIsMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const senders, each = 4, 1000
		s := New()
		var mu sync.Mutex
		stored, taken := 0, 0
		for range senders {
			go func() {
				for range each {
					mu.Lock()
					stored++
					mu.Unlock()
					s.Set()
				}
			}()
		}
		quit := make(chan struct{})
		go func() {
			for {
				select {
				case <-s.C():
				case <-quit:
					return
				}
				mu.Lock()
				taken += stored
				stored = 0
				mu.Unlock()
			}
		}()
		synctest.Wait() // all senders have ended, and the receiver sleeps
		mu.Lock()
		defer mu.Unlock()
		if taken != senders*each {
			t.Errorf("taken %d of %d", taken, senders*each)
		}
		close(quit)
	})
}
