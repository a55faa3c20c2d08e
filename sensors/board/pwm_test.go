package board

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// pwmKernel imitates drivers/pwm/sysfs.c and the checks of drivers/pwm/core.c (Linux 6.12,
// and the stricter ones of 5.10) for the channels of pwmchip0.
type pwmKernel struct {
	t        *testing.T
	root     string
	taken    map[int]bool // by a driver of the kernel
	denied   int          // how often a new channel may not be written yet
	readOnly bool         // the file system is
	pwms     map[int]*attributes
	writes   []string
	peak     float64 // the highest level since it was last set to 0
}

// newPWMKernel makes a chip with that many channels, of the device fe20c000.pwm.
func newPWMKernel(t *testing.T, n int) *pwmKernel {
	k := &pwmKernel{t: t, root: t.TempDir(), taken: map[int]bool{}, pwms: map[int]*attributes{}}
	chip := filepath.Join(k.root, pwmClass, "pwmchip0")
	device := filepath.Join(k.root, "sys/devices/platform/fe20c000.pwm")
	for _, dir := range []string{chip, device} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink(device, filepath.Join(chip, "device")), os.WriteFile(filepath.Join(chip, "npwm"), []byte(strconv.Itoa(n)+"\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	return k
}

func (k *pwmKernel) open(c PWMConfig) (*pwmChannel, error) { return openPWM(k, k.root, c) }

// at returns the channel and the attribute of a path.
func (k *pwmKernel) at(path string) (*attributes, string, error) {
	n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(filepath.Dir(path)), "pwm"))
	if a := k.pwms[n]; err == nil && a != nil {
		return a, filepath.Base(path), nil
	}
	return nil, "", &fs.PathError{Op: "open", Path: path, Err: syscall.ENOENT}
}

func (k *pwmKernel) writable(path string) error {
	if _, _, err := k.at(path); err != nil {
		return err
	}
	if k.denied > 0 {
		k.denied--
		return &fs.PathError{Op: "open", Path: path, Err: syscall.EACCES}
	}
	return nil
}

func (k *pwmKernel) read(path string) (string, error) {
	a, name, err := k.at(path)
	if err != nil {
		return "", err
	}
	return map[string]string{
		"period": strconv.FormatInt(a.period, 10), "duty_cycle": strconv.FormatInt(a.duty, 10),
		"polarity": map[bool]string{true: "inversed", false: "normal"}[a.inversed], "enable": map[bool]string{true: "1", false: "0"}[a.enabled],
	}[name] + "\n", nil
}

func (k *pwmKernel) write(path, value string) error {
	if k.readOnly {
		return &fs.PathError{Op: "open", Path: path, Err: syscall.EROFS}
	}
	if filepath.Base(path) == "export" {
		n, err := strconv.Atoi(value)
		if err != nil || k.taken[n] || k.pwms[n] != nil {
			return &fs.PathError{Op: "write", Path: path, Err: syscall.EBUSY}
		}
		k.pwms[n] = &attributes{}
		return nil
	}
	a, name, err := k.at(path)
	if err != nil {
		return err
	}
	k.writes = append(k.writes, name+" "+value)
	next := *a
	n, _ := strconv.ParseInt(value, 10, 64)
	switch name {
	case "period":
		next.period = n
	case "duty_cycle":
		next.duty = n
	case "enable":
		next.enabled = value == "1"
	case "polarity":
		if a.enabled {
			return &fs.PathError{Op: "write", Path: path, Err: syscall.EBUSY}
		}
		next.inversed = value == "inversed"
	}
	if next.period == 0 || next.duty > next.period {
		return &fs.PathError{Op: "write", Path: path, Err: syscall.EINVAL}
	}
	*a = next
	if a.enabled {
		k.peak = max(k.peak, float64(a.duty)/float64(a.period))
	}
	return nil
}

const fast = 40 * time.Microsecond // 25 kHz

// A channel is exported, waited for, and switched on last.
func TestPWMFromTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newPWMKernel(t, 2)
		k.denied = 50 // udev takes half a second
		p, err := k.open(PWMConfig{Channel: "fe20c000.pwm:1", Period: fast, On: 10 * time.Microsecond, ActiveLow: true})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(k.writes, ", "); got != "period 40000, duty_cycle 10000, polarity inversed, enable 1" {
			t.Errorf("%s", got)
		}
		if on, err := p.On(); on != 10*time.Microsecond || err != nil {
			t.Errorf("%v, %v", on, err)
		}
		k.writes = nil
		if err := p.Set(0); err != nil || strings.Join(k.writes, ", ") != "duty_cycle 0" {
			t.Errorf("off: %v, %v: it stays enabled, so that the level is driven", k.writes, err)
		}
		k.pwms[1].enabled = false
		if on, _ := p.On(); on != fast {
			t.Errorf("an inversed channel that is off reads %v: it is low all the time", on)
		}
		if err := p.Set(5 * time.Microsecond); err != nil || !k.pwms[1].enabled {
			t.Errorf("switched off by somebody: %v", err)
		}
	})
}

// Whatever a channel had before, no write is refused, and no step is above both levels.
func TestPWMNeverAboveBothLevels(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		k := newPWMKernelIn(t, rootOf(t))
		period := 1 + r.Int64N(100_000)
		before := attributes{period: period, duty: r.Int64N(period + 1), inversed: r.IntN(4) == 0, enabled: r.IntN(4) > 0}
		if r.IntN(8) == 0 {
			before = attributes{}
		}
		copied := before
		k.pwms[0] = &copied
		want := time.Duration(10_000 + r.Int64N(90_000))
		c := PWMConfig{Channel: "pwmchip0:0", Period: want, On: time.Duration(r.Int64N(int64(want) + 1)), ActiveLow: r.IntN(4) == 0}
		p, err := k.open(c)
		if err != nil {
			t.Fatalf("from %+v to %+v: %v after %q", before, c, err, k.writes)
		}
		limit := float64(c.On) / float64(c.Period)
		if before.enabled {
			limit = max(limit, float64(before.duty)/float64(before.period))
		}
		if k.peak > limit+1e-9 {
			t.Fatalf("from %+v to %+v: %.3f, by %q", before, c, k.peak, k.writes)
		}
		if on, err := p.On(); on != c.On || err != nil {
			t.Fatalf("from %+v to %+v: reads %v, %v", before, c, on, err)
		}
	}
}

var pwmRoot string

// rootOf returns one chip's directory for many kernels.
func rootOf(t *testing.T) string {
	if pwmRoot == "" {
		pwmRoot = newPWMKernel(t, 1).root
		t.Cleanup(func() { pwmRoot = "" })
	}
	return pwmRoot
}

func newPWMKernelIn(t *testing.T, root string) *pwmKernel {
	return &pwmKernel{t: t, root: root, taken: map[int]bool{}, pwms: map[int]*attributes{}}
}

// With Keep the share of the period stays, also over another period.
func TestPWMKeeps(t *testing.T) {
	k := newPWMKernel(t, 1)
	k.pwms[0] = &attributes{period: 1000, duty: 250, enabled: true}
	p, err := k.open(PWMConfig{Channel: "pwmchip0:0", Period: fast, Keep: true})
	if err != nil {
		t.Fatal(err)
	}
	if on, err := p.On(); on != fast/4 || err != nil || k.peak > 0.25 {
		t.Errorf("%v, %v, peak %v", on, err, k.peak)
	}
}

// A channel that another program has unexported, or whose chip was unplugged, is gone: its
// user must request it again, and that works.
func TestPWMThatIsGone(t *testing.T) {
	k := newPWMKernel(t, 2)
	c := PWMConfig{Channel: "fe20c000.pwm:1", Period: fast, On: fast / 2}
	p, err := k.open(c)
	if err != nil {
		t.Fatal(err)
	}
	delete(k.pwms, 1)
	_, read := p.On()
	for _, err := range []error{p.Set(0), read} {
		if !errors.Is(err, ErrAbsent) || !errors.Is(err, syscall.ENODEV) {
			t.Errorf("got %v, want that it is gone", err)
		}
	}
	c.On = 0
	if p, err = k.open(c); err != nil {
		t.Fatal(err)
	}
	if on, err := p.On(); on != 0 || err != nil || !k.pwms[1].enabled {
		t.Errorf("after another request: %v, %v, %+v", on, err, k.pwms[1])
	}
}

func TestPWMThatIsNotThere(t *testing.T) {
	k := newPWMKernel(t, 2)
	k.taken[1] = true
	for name, want := range map[string]string{
		"pwmchip0:2": "has the channels 0 to 1",
		"pwmchip7:0": "no chip of this name, there are fe20c000.pwm",
		"pwmchip0":   "want chip:channel",
		"../x:0":     "want chip:channel",
	} {
		if _, err := k.open(PWMConfig{Channel: name, Period: fast}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
	var busy *BusyError
	if _, err := k.open(PWMConfig{Channel: "pwmchip0:1", Period: fast}); !errors.As(err, &busy) || busy.Holder != "a driver of the kernel" {
		t.Errorf("a channel that a driver has: %v", err)
	}
	if _, err := findPWM(t.TempDir(), "pwmchip0:0"); !errors.Is(err, ErrAbsent) || !strings.Contains(err.Error(), "dtoverlay=pwm") {
		t.Errorf("no chip: %v", err)
	}
	synctest.Test(t, func(t *testing.T) {
		k := newPWMKernel(t, 1)
		k.denied = 1 << 20
		if _, err := k.open(PWMConfig{Channel: "pwmchip0:0", Period: fast}); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "udev rule") {
			t.Errorf("without the right: %v", err)
		}
	})
	k.readOnly = true
	if _, err := k.open(PWMConfig{Channel: "pwmchip0:0", Period: fast}); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "ReadWritePaths="+filepath.Join(k.root, pwmClass, "pwmchip0")) {
		t.Errorf("under a unit to which the folder is read-only: %v", err)
	}
}
