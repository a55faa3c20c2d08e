package wake

import (
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// UseKernelTimer has every [Timer] that is made from now on be served by one timer of the
// kernel's (timerfd_create(2)), which Go sees as a file that can be read. For each of its own
// timers Go wakes up two threads, the one that waits for files and its monitor thread, and the
// latter once more until it has seen that there is nothing to do. A timer of the kernel's wakes
// one, and is neither rounded to milliseconds nor late by the process's timer slack.
//
// The setting is the process's. Who has called UseKernelTimer calls stop when all Timers that
// were made since have served. After the last of these calls timers are Go's again, and those
// that were made in between never expire; it waits for the goroutine that serves them. An error
// leaves Go's timers in use. Any goroutine.
func UseKernelTimer() (stop func(), err error) {
	users.Lock()
	defer users.Unlock()
	if users.n == 0 {
		k, err := newKernelTimers()
		if err != nil {
			return nil, err
		}
		inUse.Store(k)
		go k.run()
	}
	users.n++
	return sync.OnceFunc(stopUsing), nil
}

// users counts the calls of UseKernelTimer that are not stopped.
var users struct {
	sync.Mutex
	n int
}

func stopUsing() {
	users.Lock()
	defer users.Unlock()
	if users.n--; users.n == 0 {
		k := inUse.Swap(nil)
		k.file.Close()
		<-k.ended
	}
}

// newKernelTimers makes timers that expire once run is called.
func newKernelTimers() (*kernelTimers, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a timer of the kernel's: %w", err)
	}
	f := os.NewFile(uintptr(fd), "timerfd")
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("use a timer of the kernel's: %w", err)
	}
	k := &kernelTimers{file: f, raw: raw, ended: make(chan struct{})}
	k.set = k.setTime
	return k, nil
}

// kernelTimers serves timers by one of the kernel's.
type kernelTimers struct {
	file  *os.File        // the timerfd
	raw   syscall.RawConn // of file
	ended chan struct{}   // closed when run has ended

	mu    sync.Mutex
	all   []*Timer // those that have not expired; a handful
	armed time.Time
	spec  unix.ItimerSpec  // for set
	set   func(fd uintptr) // setTime, made once
}

// run lets timers expire until the timerfd is closed. A panic must not end the process, which
// would let go of the outputs' lines: without its timers no loop gives a heartbeat, and the
// watchdog, which has a timer of Go's, ends the daemon in order.
func (k *kernelTimers) run() {
	defer close(k.ended)
	defer func() {
		if p := recover(); p != nil {
			fmt.Fprintf(os.Stderr, "a bug in fieldpost: panic in its timers: %v\n%s", p, debug.Stack())
		}
	}()
	_ = k.raw.Read(k.serve) // until the file is closed
}

// serve lets timers expire if the timerfd has, and asks to be called again when it has next. All
// is one long read of a syscall.RawConn: a new one each time would begin with a call that finds
// nothing. The read cannot block, so Go's scheduler need not be told of it, as syscall.Read does.
func (k *kernelTimers) serve(fd uintptr) (done bool) {
	var times uint64
	_, _, errno := unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&times)), unsafe.Sizeof(times))
	if errno == 0 {
		k.expire(time.Now())
	}
	return false
}

// expire lets the timers expire whose time has come.
func (k *kernelTimers) expire(now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.armed = time.Time{}
	k.all = slices.DeleteFunc(k.all, func(t *Timer) bool {
		if t.at.After(now) {
			return false
		}
		t.waits = false
		if t.call != nil {
			go t.call() // as time.AfterFunc does
		} else {
			t.fired <- now // there is room: who waits has taken the one before
		}
		return true
	})
	k.armLocked(now)
}

func (k *kernelTimers) reset(t *Timer, d time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.clearLocked(t)
	now := time.Now()
	t.at, t.waits = now.Add(d), true
	k.all = append(k.all, t)
	k.armLocked(now)
}

func (k *kernelTimers) stop(t *Timer) (waited bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	waited = k.clearLocked(t)
	if waited {
		k.armLocked(time.Now())
	}
	return waited
}

// clearLocked takes a timer out. It reports whether nobody has seen it expire.
func (k *kernelTimers) clearLocked(t *Timer) (waited bool) {
	select {
	case <-t.fired:
		waited = true
	default:
	}
	if t.waits {
		t.waits = false
		k.all = slices.DeleteFunc(k.all, func(x *Timer) bool { return x == t })
		waited = true
	}
	return waited
}

// armLocked has the kernel's timer expire when the first of all does, or never.
func (k *kernelTimers) armLocked(now time.Time) {
	var first time.Time
	for _, t := range k.all {
		if first.IsZero() || t.at.Before(first) {
			first = t.at
		}
	}
	if first.Equal(k.armed) {
		return
	}
	k.armed, k.spec.Value = first, unix.Timespec{}
	if !first.IsZero() {
		k.spec.Value = unix.NsecToTimespec(int64(max(first.Sub(now), 1))) // 0 would be never
	}
	_ = k.raw.Control(k.set) // it fails only when it is closed
}

func (k *kernelTimers) setTime(fd uintptr) {
	_, _, _ = unix.RawSyscall6(unix.SYS_TIMERFD_SETTIME, fd, 0, uintptr(unsafe.Pointer(&k.spec)), 0, 0, 0)
}
