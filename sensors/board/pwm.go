package board

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// PWMConfig asks for a PWM channel.
type PWMConfig struct {
	Channel   string        // as the user wrote it; see [ParsePWM]
	Period    time.Duration // the length of a period
	On        time.Duration // for how long it is active in each period, from the first moment
	ActiveLow bool          // active is the low level: polarity "inversed"
	Keep      bool          // keep the present share of the period instead of On
}

// PWM is a PWM channel of the kernel. Its methods may be called from any goroutine. It
// has no handle: the kernel goes on with what was set last when the process ends.
type PWM interface {
	// Set sets for how long the channel is active in each period, and everything else that
	// somebody may have changed. The error wraps [ErrAbsent] and [syscall.ENODEV] if the
	// channel is gone: its chip was unplugged, or somebody has given the channel back to the
	// kernel (unexport). Only a new request brings it back.
	Set(on time.Duration) error
	// On reads from the kernel for how long it is active in each period of the
	// configuration's length. It is the kernel's own record: no driver asks its chip. Its
	// errors are those of Set.
	On() (time.Duration, error)
}

// ParsePWM parses the name of a PWM channel: chip:channel. chip is the kernel's name of
// the PWM chip (pwmchip0), which may change, or of its device (fe20c000.pwm, 1-0040).
func ParsePWM(s string) (chip string, channel int, err error) {
	i := strings.LastIndexByte(s, ':')
	if i < 1 || !isNumber(s[i+1:]) || checkName(s[:i]) != nil || strings.Contains(s, "/") {
		return "", 0, fmt.Errorf("PWM channel %q: want chip:channel, such as pwmchip0:1 or fe20c000.pwm:1", s)
	}
	channel, err = strconv.Atoi(s[i+1:])
	if err != nil || channel > maxOffset {
		return "", 0, fmt.Errorf("PWM channel %q: no chip has so many", s)
	}
	return s[:i], channel, nil
}

// pwmClass is where /sys has PWM chips.
const pwmClass = "sys/class/pwm"

// findPWM returns the identity of a PWM channel. Its label is the name of the chip's
// device.
func findPWM(root, name string) (LineID, error) {
	chip, channel, err := ParsePWM(name)
	if err != nil {
		return LineID{}, err
	}
	paths, _ := filepath.Glob(filepath.Join(root, pwmClass, "pwmchip*")) // the pattern is well formed
	var labels []string
	for _, path := range paths {
		id := LineID{Label: filepath.Base(path), Chip: filepath.Base(path), Offset: channel}
		if device, err := filepath.EvalSymlinks(filepath.Join(path, "device")); err == nil {
			id.Label = filepath.Base(device)
		}
		labels = append(labels, visible(id.Label))
		if chip != id.Chip && chip != id.Label {
			continue
		}
		text, err := os.ReadFile(filepath.Join(path, "npwm"))
		n, bad := strconv.Atoi(strings.TrimSpace(string(text)))
		switch {
		case err != nil || bad != nil:
			return LineID{}, fmt.Errorf("find PWM channel %q: %w", name, errors.Join(err, bad))
		case channel >= n:
			return LineID{}, fmt.Errorf("find PWM channel %q: chip %s has the channels 0 to %d: %w", name, chip, n-1, ErrAbsent)
		}
		return id, nil
	}
	if len(labels) == 0 {
		return LineID{}, fmt.Errorf("find PWM channel %q: this machine has no PWM chip; on a Raspberry Pi dtoverlay=pwm or pwm-2chan in config.txt and a restart give one: %w", name, ErrAbsent)
	}
	return LineID{}, fmt.Errorf("find PWM channel %q: no chip of this name, there are %s: %w", name, strings.Join(labels, ", "), ErrAbsent)
}

// pwmChannel is a channel in /sys. Each attribute is a file.
type pwmChannel struct {
	files attributeFiles
	id    LineID
	dir   string
	c     PWMConfig
}

// attributeFiles is how files of /sys are read and written. Tests replace it by a kernel that
// refuses what the real one refuses.
type attributeFiles interface {
	read(path string) (string, error)
	write(path, value string) error
	// writable returns an error if the file is not there or may not be written.
	writable(path string) error
}

// realFiles are the files of /sys.
type realFiles struct{}

func (realFiles) read(path string) (string, error) {
	b, err := os.ReadFile(path)
	return string(b), err
}

func (realFiles) write(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

func (realFiles) writable(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// openPWM makes a channel as its configuration says. It never drives the channel at a
// level above both the present and the new one.
func openPWM(files attributeFiles, root string, c PWMConfig) (*pwmChannel, error) {
	id, err := findPWM(root, c.Channel)
	if err != nil {
		return nil, err
	}
	chip := filepath.Join(root, pwmClass, id.Chip)
	p := &pwmChannel{files: files, id: id, dir: filepath.Join(chip, "pwm"+strconv.Itoa(id.Offset)), c: c}
	if err := p.export(chip); err != nil {
		return nil, err
	}
	on := c.On
	if c.Keep {
		if on, err = p.On(); err != nil {
			return nil, err
		}
	}
	if err := p.Set(on); err != nil {
		return nil, err
	}
	return p, nil
}

// udev gives the files of a channel to their group some time after they are there.
const (
	udevPatience = 2 * time.Second
	udevLook     = 10 * time.Millisecond
)

// export has the kernel make the channel's files, and waits until they may be written.
func (p *pwmChannel) export(chip string) error {
	duty := filepath.Join(p.dir, "duty_cycle")
	if errors.Is(p.files.writable(duty), fs.ErrNotExist) {
		err := p.files.write(filepath.Join(chip, "export"), strconv.Itoa(p.id.Offset))
		if errors.Is(err, syscall.EBUSY) {
			if errors.Is(p.files.writable(duty), fs.ErrNotExist) {
				return &BusyError{Line: p.id, Holder: "a driver of the kernel"}
			}
			err = nil // somebody else has exported it meanwhile
		}
		if err != nil {
			return p.wrap("export", err)
		}
	}
	look := time.NewTimer(0)
	defer look.Stop()
	for end := time.Now().Add(udevPatience); ; {
		<-look.C
		err := p.files.writable(duty)
		if err == nil {
			return nil
		}
		if !errors.Is(err, fs.ErrPermission) || !time.Now().Before(end) {
			return p.wrap("open", err)
		}
		look.Reset(udevLook)
	}
}

// wrap says what failed, and what to do where the right is missing.
func (p *pwmChannel) wrap(verb string, err error) error {
	var named *fs.PathError
	if errors.As(err, &named) {
		err = fmt.Errorf("%s: %w", filepath.Base(named.Path), named.Err)
	}
	switch {
	case errors.Is(err, syscall.EROFS):
		folder := filepath.Dir(p.dir)
		if real, err := filepath.EvalSymlinks(folder); err == nil {
			folder = real
		}
		return fmt.Errorf("%s PWM channel %s: %w (%w); the unit makes this part of /sys read-only: allow it by `systemctl edit fieldpost`, [Service], ReadWritePaths=%s", verb, p.id, err, fs.ErrPermission, visible(folder))
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s PWM channel %s: %w; the udev rule that comes with fieldpost gives the right to the group gpio", verb, p.id, err)
	}
	return fmt.Errorf("%s PWM channel %s: %w", verb, p.id, err)
}

// gone is wrap for a channel that was exported. If its files are missing now, or belong to a
// device that the kernel has removed, they never work again.
func (p *pwmChannel) gone(verb string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV) {
		return fmt.Errorf("%s PWM channel %s: %w: its chip was unplugged, or another program has unexported it (%w)", verb, p.id, ErrAbsent, syscall.ENODEV)
	}
	return p.wrap(verb, err)
}

// attributes are a channel's.
type attributes struct {
	period, duty int64 // nanoseconds
	inversed     bool
	enabled      bool
}

func (p *pwmChannel) read() (a attributes, err error) {
	text := func(name string) string {
		s, e := p.files.read(filepath.Join(p.dir, name))
		err = errors.Join(err, e)
		return strings.TrimSpace(s)
	}
	number := func(name string) int64 {
		n, e := strconv.ParseInt(text(name), 10, 64)
		if err == nil {
			err = e
		}
		return n
	}
	a = attributes{period: number("period"), duty: number("duty_cycle"), inversed: text("polarity") == "inversed", enabled: text("enable") == "1"}
	if err != nil {
		return attributes{}, p.gone("read", err)
	}
	return a, nil
}

// Set writes what differs, in an order in which no step is refused (the time on must not
// exceed the period) and no step is above both the old and the new level: a shorter
// period comes after its time on, a longer one before it. The polarity can only be changed
// while the channel is off.
func (p *pwmChannel) Set(on time.Duration) error {
	has, err := p.read()
	if err != nil {
		return err
	}
	period := strconv.FormatInt(p.c.Period.Nanoseconds(), 10)
	duty := strconv.FormatInt(on.Nanoseconds(), 10)
	type step struct{ name, value string }
	var steps []step
	flip := has.inversed != p.c.ActiveLow
	if flip && has.enabled {
		steps = append(steps, step{"enable", "0"})
	}
	changes := []step{{"period", period}, {"duty_cycle", duty}}
	if has.period > p.c.Period.Nanoseconds() {
		slices.Reverse(changes)
	}
	for _, s := range changes {
		if s.name == "period" && has.period == p.c.Period.Nanoseconds() || s.name == "duty_cycle" && has.duty == on.Nanoseconds() {
			continue
		}
		steps = append(steps, s)
	}
	if flip {
		steps = append(steps, step{"polarity", map[bool]string{false: "normal", true: "inversed"}[p.c.ActiveLow]})
	}
	if flip || !has.enabled {
		steps = append(steps, step{"enable", "1"})
	}
	for _, s := range steps {
		if err := p.files.write(filepath.Join(p.dir, s.name), s.value); err != nil {
			return p.gone("set", fmt.Errorf("%s to %s: %w", s.name, s.value, err))
		}
	}
	return nil
}

// On reads back for how long the channel is active in each period. One that is off is
// low all the time.
func (p *pwmChannel) On() (time.Duration, error) {
	a, err := p.read()
	if err != nil {
		return 0, err
	}
	switch {
	case a.enabled && a.period > 0:
		on := time.Duration(float64(p.c.Period) * float64(a.duty) / float64(a.period))
		if a.inversed != p.c.ActiveLow {
			on = p.c.Period - on
		}
		return on, nil
	case p.c.ActiveLow:
		return p.c.Period, nil
	}
	return 0, nil
}
