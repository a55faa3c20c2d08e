package clock

import (
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// kernel answers adjtimex as it is told to, and counts how often it is asked.
type kernel struct {
	mono   time.Duration
	state  int
	status int32
	errs   []error // given first, one a call
	asked  int
}

func (k *kernel) clock() *system {
	return &system{
		boot: "b",
		mono: func() (time.Duration, error) { return k.mono, nil },
		adjtimex: func(t *unix.Timex) (int, error) {
			k.asked++
			if *t != (unix.Timex{}) {
				return 0, unix.EPERM // only a zero Timex may be asked by anybody
			}
			if len(k.errs) > 0 {
				err := k.errs[0]
				k.errs = k.errs[1:]
				return -1, err
			}
			t.Status = k.status
			return k.state, nil
		},
	}
}

func TestSynced(t *testing.T) {
	for _, c := range []struct {
		name string
		k    kernel
		want bool
	}{
		{"synchronised", kernel{state: unix.TIME_OK, status: unix.STA_PLL}, true},
		{"leap second coming", kernel{state: unix.TIME_INS, status: unix.STA_INS}, true},
		{"unsynchronised flag", kernel{state: unix.TIME_OK, status: unix.STA_UNSYNC}, false},
		{"error state", kernel{state: unix.TIME_ERROR}, false},
		{"both, as after power-on", kernel{state: unix.TIME_ERROR, status: unix.STA_UNSYNC}, false},
		{"seccomp says EPERM", kernel{errs: []error{unix.EPERM}}, false},
		{"seccomp says ENOSYS", kernel{errs: []error{unix.ENOSYS}}, false},
		{"interrupted once", kernel{errs: []error{unix.EINTR}}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.k.clock().Now().Synced; got != c.want {
				t.Errorf("Synced = %v, want %v", got, c.want)
			}
		})
	}
}

func TestKernelIsAskedOnceASecond(t *testing.T) {
	k := &kernel{mono: time.Hour, state: unix.TIME_OK}
	c := k.clock()
	c.Now()
	k.state = unix.TIME_ERROR
	k.mono += 999 * time.Millisecond
	if !c.Now().Synced || k.asked != 1 {
		t.Errorf("within the second: asked %d times", k.asked)
	}
	k.mono += time.Millisecond
	if c.Now().Synced || k.asked != 2 {
		t.Errorf("after a second: asked %d times, or the new answer is not used", k.asked)
	}
}

// An order that comes right after the clock was set must not be refused.
func TestNewsOfATrueClockIsNotLate(t *testing.T) {
	k := &kernel{mono: time.Hour, state: unix.TIME_ERROR}
	c := k.clock()
	if c.Now().Synced {
		t.Error("synchronised from the start")
	}
	k.state = unix.TIME_OK
	if !c.Now().Synced || k.asked != 2 {
		t.Errorf("asked %d times, or the new answer is not used", k.asked)
	}
}

func TestSystem(t *testing.T) {
	c, err := System()
	if err != nil {
		t.Fatal(err)
	}
	a, b := c.Now(), c.Now()
	want, err := os.ReadFile(bootID)
	if err != nil {
		t.Fatal(err)
	}
	if a.Boot != strings.TrimSpace(string(want)) || a.Boot != b.Boot {
		t.Errorf("boot ids %q and %q, want %q", a.Boot, b.Boot, want)
	}
	if a.Mono <= 0 || b.Mono < a.Mono {
		t.Errorf("time since boot went from %v to %v", a.Mono, b.Mono)
	}
	if a.Wall.Location() != time.UTC || a.Wall != a.Wall.Round(0) {
		t.Errorf("wall time %v is not plain UTC", a.Wall)
	}
}

func TestAnyGoroutine(t *testing.T) {
	c, err := System()
	if err != nil {
		t.Fatal(err)
	}
	boot := c.Now().Boot
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				if got := c.Now().Boot; got != boot {
					t.Errorf("boot id %q, want %q", got, boot)
				}
			}
		})
	}
	wg.Wait()
}
