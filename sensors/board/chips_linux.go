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

	"github.com/warthog618/go-gpiocdev/uapi"
	"golang.org/x/sys/unix"
)

// Chips lists every GPIO chip of the machine with its lines, by number. It requests no
// line.
func (m *Machine) Chips() []ChipInfo {
	paths, _ := filepath.Glob(filepath.Join(m.dev, "gpiochip*")) // the pattern is well formed
	slices.SortFunc(paths, byNumber)
	var chips []ChipInfo
	links := map[string][]string{}
	for _, path := range paths {
		if target, err := os.Readlink(path); err == nil {
			device := filepath.Base(target)
			links[device] = append(links[device], filepath.Base(path))
			continue
		}
		chips = append(chips, m.chip(path))
	}
	for i, c := range chips {
		chips[i].Links = links[c.Device]
	}
	return chips
}

// byNumber orders device files as people do: gpiochip2 before gpiochip10.
func byNumber(a, b string) int {
	number := func(path string) int {
		n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(path), "gpiochip"))
		if err != nil {
			return -1
		}
		return n
	}
	if d := number(a) - number(b); d != 0 {
		return d
	}
	return strings.Compare(a, b)
}

// chip reads one chip.
func (m *Machine) chip(path string) ChipInfo {
	c := ChipInfo{Device: filepath.Base(path)}
	f, err := m.kernel.open(path)
	if err != nil {
		c.Err = chipError(path, err)
		return c
	}
	defer f.Close()
	if err := m.readChip(&c, f); err != nil {
		return ChipInfo{Device: c.Device, Err: chipError(path, err)}
	}
	return c
}

func (m *Machine) readChip(c *ChipInfo, f *os.File) error {
	info, err := m.kernel.chip(f)
	if err != nil {
		return err
	}
	c.Label = uapi.BytesToString(info.Label[:])
	if c.Label == "" {
		c.Label = c.Device
	}
	c.Lines = make([]LineInfo, info.Lines)
	for i := range c.Lines {
		l, err := m.kernel.info(f, i)
		if err != nil {
			return err
		}
		c.Lines[i] = LineInfo{
			Name:   uapi.BytesToString(l.Name[:]),
			Used:   l.Flags.IsUsed(),
			Holder: uapi.BytesToString(l.Consumer[:]),
			Output: l.Flags.IsOutput(),
		}
	}
	return nil
}

// chipError says why a chip cannot be used and what to do about it.
func chipError(path string, err error) error {
	var named *fs.PathError
	if errors.As(err, &named) {
		err = named.Err // the message has the path already
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("open GPIO chip %s: %w; %s", path, fs.ErrPermission, groupHint(path, "gpio"))
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("open GPIO chip %s: %w (%w)", path, ErrAbsent, err)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOTTY):
		return fmt.Errorf("read GPIO chip %s: it does not speak version 2 of the kernel's interface, Linux 5.10 or later is needed: %w", path, err)
	}
	return fmt.Errorf("read GPIO chip %s: %w", path, err)
}
