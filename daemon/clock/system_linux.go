package clock

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// bootID is where the kernel tells its boot id, random(4).
const bootID = "/proc/sys/kernel/random/boot_id"

// recheck is how long the kernel's word that the wall clock is true is taken
// for granted. That it is not is never: an order would be refused for it.
const recheck = time.Second

// System gives this machine's clock: CLOCK_BOOTTIME, which goes on counting
// while the machine sleeps (clock_gettime(2)), the wall clock, and the
// kernel's word on whether that is synchronised (adjtimex(2)). Where the
// kernel may not be asked, because of a seccomp filter, the wall clock is held
// to be untrue. The error names what the machine lacks.
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
	return &system{boot: boot, mono: bootTime, adjtimex: unix.Adjtimex}, nil
}

// system is the clock of a Linux machine.
type system struct {
	boot     string
	mono     func() (time.Duration, error)
	adjtimex func(*unix.Timex) (int, error)

	mu     sync.Mutex
	when   time.Duration // on CLOCK_BOOTTIME, when the kernel was last asked
	synced bool          // and what it said
}

// Now asks the kernel. That the clock is synchronised may be a second old; that
// it is not is true now.
func (s *system) Now() Stamp {
	// It answered in System, and has no reason to refuse later.
	mono, _ := s.mono()
	return Stamp{Boot: s.boot, Mono: mono, Wall: time.Now().Round(0).UTC(), Synced: s.isSynced(mono)}
}

func (s *system) isSynced(now time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.synced || now-s.when >= recheck || now < s.when {
		s.when = now
		s.synced = s.ask()
	}
	return s.synced
}

// ask reads the kernel's clock state; a zero Timex changes nothing.
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

func bootTime() (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0, fmt.Errorf("read CLOCK_BOOTTIME: %w", err)
	}
	return time.Duration(ts.Nano()), nil
}
