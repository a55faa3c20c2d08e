package wake

import (
	"sync/atomic"
	"time"
)

// Timer is a [time.Timer] that can be one of the kernel's; see [UseKernelTimer]. Make one with
// [NewTimer] or [AfterFunc]. Its methods may be called from any goroutine, but for C: after
// Reset or Stop, C gives nothing of an earlier time only to who has not received it yet.
type Timer struct {
	C <-chan time.Time // gives the time when the timer has expired; nil for AfterFunc

	std *time.Timer // nil: the timer is one of kernel

	// The lock of kernel guards what follows.
	kernel *kernelTimers
	fired  chan time.Time // C; nil if call is set
	call   func()
	at     time.Time // when it expires
	waits  bool
}

// inUse is what new timers are served by; nil is Go's runtime.
var inUse atomic.Pointer[kernelTimers]

// NewTimer returns a timer that expires after d.
func NewTimer(d time.Duration) *Timer {
	k := inUse.Load()
	if k == nil {
		std := time.NewTimer(d)
		return &Timer{C: std.C, std: std}
	}
	c := make(chan time.Time, 1)
	t := &Timer{C: c, kernel: k, fired: c}
	k.reset(t, d)
	return t
}

// AfterFunc returns a timer that calls f on a goroutine of its own after d.
func AfterFunc(d time.Duration, f func()) *Timer {
	k := inUse.Load()
	if k == nil {
		return &Timer{std: time.AfterFunc(d, f)}
	}
	t := &Timer{kernel: k, call: f}
	k.reset(t, d)
	return t
}

// Reset has the timer expire after d from now, whether or not it has expired.
func (t *Timer) Reset(d time.Duration) {
	if t.std != nil {
		t.std.Reset(d)
		return
	}
	t.kernel.reset(t, d)
}

// Stop has the timer not expire. It reports whether it would have.
func (t *Timer) Stop() bool {
	if t.std != nil {
		return t.std.Stop()
	}
	return t.kernel.stop(t)
}
