package clock

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// bootID is the file with the kernel's boot id (random(4)).
const bootID = "/proc/sys/kernel/random/boot_id"

// recheck is how long a synchronised clock is trusted before it is checked again. A clock
// that is not synchronised is checked every time, because an order might be refused for it.
const recheck = time.Second

// System returns this machine's clock: CLOCK_BOOTTIME, which also counts while the machine
// sleeps (clock_gettime(2)), the wall clock, and whether the kernel says that it is
// synchronised (adjtimex(2)). If a seccomp filter forbids adjtimex, the clock counts as not
// synchronised. The error says what the machine lacks.
func System() (Clock, error) {
	b, err := os.ReadFile(bootID)
	if err != nil {
		return nil, fmt.Errorf("read boot id: %w", err)
	}
	boot := strings.TrimSpace(string(b))
	if boot == "" {
		return nil, fmt.Errorf("read boot id: %q is empty", bootID)
	}
	if _, err := bootTime(); err != nil {
		return nil, err
	}
	return &system{boot: boot, mono: bootTime, adjtimex: adjtimex}, nil
}

// system is the clock of a Linux machine.
type system struct {
	boot     string
	mono     func() (time.Duration, error)
	adjtimex func(*unix.Timex) (int, error)

	mu     sync.Mutex
	when   time.Duration // when the kernel was last asked, on CLOCK_BOOTTIME
	synced bool          // its answer
}

// Now returns the present moment. If Synced is true it may be a second old; if it is false it
// is current.
func (s *system) Now() Stamp {
	// It worked in System and has no reason to fail later.
	mono, _ := s.mono()
	return Stamp{Boot: s.boot, Mono: mono, Wall: time.Now().Round(0).UTC(), Synced: s.isSynced(mono)}
}

// isSynced returns the kernel's answer, at most recheck old.
func (s *system) isSynced(now time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.synced || now-s.when >= recheck || now < s.when {
		s.when = now
		s.synced = s.ask()
	}
	return s.synced
}

// ask reads the state of the kernel's clock. A zero Timex changes nothing.
func (s *system) ask() bool {
	var t unix.Timex
	for {
		state, err := s.adjtimex(&t)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return err == nil && state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0
	}
}

// bootTime returns the time since boot. Go's scheduler is not told of the system call, which would
// wake Go's monitor thread: that is for calls that may block.
func bootTime() (time.Duration, error) {
	var ts unix.Timespec
	if _, _, errno := unix.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_BOOTTIME, uintptr(unsafe.Pointer(&ts)), 0); errno != 0 {
		return 0, fmt.Errorf("read CLOCK_BOOTTIME: %w", errno)
	}
	return time.Duration(ts.Nano()), nil
}

// adjtimex is unix.Adjtimex, but without telling Go's scheduler of a system call; see bootTime.
func adjtimex(t *unix.Timex) (state int, err error) {
	r, _, errno := unix.RawSyscall(unix.SYS_ADJTIMEX, uintptr(unsafe.Pointer(t)), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(r), nil
}
