package board

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/warthog618/go-gpiocdev/uapi"
	"golang.org/x/sys/unix"
)

// fakeGPIO replaces the kernel: chips are plain files, and line handles are pipes. A line
// is held while its handle is open, and edges are written into the pipe in the kernel's
// form.
type fakeGPIO struct {
	t   *testing.T
	dev string

	mu      sync.Mutex
	chips   map[string]*fakeChip // by device
	opening map[string]error     // by device
	asked   func(*uapi.LineRequest)
}

type fakeChip struct {
	label string
	lines []*fakeLine
	fail  error // of every request
}

type fakeLine struct {
	name, holder string
	high         bool // physical
	seq          uint32
	request      *uapi.LineRequest // the latest
	requests     int
	events       int // our end of the handle's pipe; -1 while nobody holds the line
	broken       error
}

// newFakeMachine returns a machine with these chips in /dev.
func newFakeMachine(t *testing.T, chips map[string]*fakeChip) (*Machine, *fakeGPIO) {
	t.Helper()
	k := &fakeGPIO{t: t, dev: t.TempDir(), chips: chips, opening: map[string]error{}}
	for device := range chips {
		if err := os.WriteFile(filepath.Join(k.dev, device), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return &Machine{dev: k.dev, kernel: k}, k
}

// bench returns a chip with lines of these names.
func bench(label string, names ...string) *fakeChip {
	c := &fakeChip{label: label}
	for _, n := range names {
		c.lines = append(c.lines, &fakeLine{name: n, events: -1})
	}
	return c
}

func (k *fakeGPIO) open(path string) (*os.File, error) {
	if err := k.opening[filepath.Base(path)]; err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.Open(path)
}

func (k *fakeGPIO) at(chip *os.File) *fakeChip {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.chips[filepath.Base(chip.Name())]
}

func (k *fakeGPIO) chip(chip *os.File) (uapi.ChipInfo, error) {
	c := k.at(chip)
	if c.fail != nil && c.lines == nil {
		return uapi.ChipInfo{}, c.fail
	}
	info := uapi.ChipInfo{Lines: uint32(len(c.lines))}
	copy(info.Name[:], filepath.Base(chip.Name()))
	copy(info.Label[:], c.label)
	return info, nil
}

func (k *fakeGPIO) info(chip *os.File, offset int) (uapi.LineInfoV2, error) {
	c := k.at(chip)
	if offset >= len(c.lines) {
		return uapi.LineInfoV2{}, unix.EINVAL
	}
	l := c.lines[offset]
	k.mu.Lock()
	defer k.mu.Unlock()
	info := uapi.LineInfoV2{Offset: uint32(offset)}
	copy(info.Name[:], l.name)
	if l.held() {
		info.Flags |= uapi.LineFlagV2Used
		copy(info.Consumer[:], l.holder)
		if l.request != nil {
			info.Flags |= l.request.Config.Flags
		}
	}
	return info, nil
}

// held reports whether somebody else has the line, or our handle is open.
func (l *fakeLine) held() bool {
	if l.events < 0 {
		return l.holder != ""
	}
	// Poll reports an error on the write end of a pipe whose read end is closed.
	fds := []unix.PollFd{{Fd: int32(l.events), Events: unix.POLLOUT}}
	if _, err := unix.Poll(fds, 0); err == nil && fds[0].Revents&unix.POLLERR == 0 {
		return true
	}
	_ = unix.Close(l.events)
	l.events, l.holder = -1, ""
	return false
}

func (k *fakeGPIO) request(chip *os.File, r *uapi.LineRequest) error {
	c := k.at(chip)
	k.mu.Lock()
	defer k.mu.Unlock()
	if r.Lines != 1 || int(r.Offsets[0]) >= len(c.lines) {
		return unix.EINVAL
	}
	l := c.lines[r.Offsets[0]]
	switch {
	case c.fail != nil:
		return c.fail
	case l.held():
		return unix.EBUSY
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	if k.asked != nil {
		k.asked(r)
	}
	copied := *r
	l.request, l.requests, l.events, l.seq = &copied, l.requests+1, p[1], 0
	l.holder = uapi.BytesToString(r.Consumer[:])
	r.Fd = int32(p[0])
	if r.Config.Flags.IsOutput() {
		l.drive(r.Config.Attrs[0].Attr.Value64()&1 != 0)
	}
	return nil
}

func (l *fakeLine) drive(active bool) { l.high = active != l.request.Config.Flags.IsActiveLow() }

// byHandle finds a handle's line by the identity of its pipe.
func (k *fakeGPIO) byHandle(handle *os.File) (*fakeLine, error) {
	var mine unix.Stat_t
	if err := control(handle, func(fd uintptr) error { return unix.Fstat(int(fd), &mine) }); err != nil {
		return nil, err
	}
	for _, c := range k.chips {
		for _, l := range c.lines {
			var st unix.Stat_t
			if l.events >= 0 && unix.Fstat(l.events, &st) == nil && st.Ino == mine.Ino && st.Dev == mine.Dev {
				return l, l.broken
			}
		}
	}
	return nil, unix.ENOTTY
}

func (k *fakeGPIO) get(handle *os.File) (uapi.LineValues, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	l, err := k.byHandle(handle)
	if err != nil {
		return uapi.LineValues{}, err
	}
	return values(l.high != l.request.Config.Flags.IsActiveLow()), nil
}

func (k *fakeGPIO) set(handle *os.File, v uapi.LineValues) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	l, err := k.byHandle(handle)
	switch {
	case err != nil:
		return err
	case !l.request.Config.Flags.IsOutput():
		return unix.EPERM
	case v.Mask != 1:
		return unix.EINVAL
	}
	l.drive(v.Bits&1 != 0)
	return nil
}

func (k *fakeGPIO) configure(handle *os.File, c uapi.LineConfig) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	l, err := k.byHandle(handle)
	if err != nil {
		return err
	}
	l.request.Config = c
	l.drive(c.Attrs[0].Attr.Value64()&1 != 0)
	return nil
}

// wire sets the physical level of an input. drop is the number of events that the
// kernel's queue loses before this one.
func (k *fakeGPIO) wire(device string, offset int, high bool, at time.Duration, drop uint32) {
	k.t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	l := k.chips[device].lines[offset]
	l.high = high
	l.seq += drop + 1
	if _, err := unix.Write(l.events, event(l.seq, high != l.request.Config.Flags.IsActiveLow(), at)); err != nil {
		k.t.Errorf("write an event: %v", err)
	}
}

// gone unplugs the chip of a line: its reader gets the end of the file.
func (k *fakeGPIO) gone(device string, offset int) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	l := k.chips[device].lines[offset]
	fd := l.events
	l.events = -1
	return errors.Join(unix.Close(fd))
}
