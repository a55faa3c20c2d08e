package board

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// adapter is an I2C bus that the kernel knows.
type adapter struct {
	number int
	name   string // "bcm2835 (i2c@7e804000)"; may be empty
}

// String returns "i2c-1 (bcm2835 (i2c@7e804000))".
func (a adapter) String() string {
	if a.name == "" {
		return fmt.Sprintf("i2c-%d", a.number)
	}
	return fmt.Sprintf("i2c-%d (%s)", a.number, a.name)
}

// adapters lists the buses with a device file in dev, by number, with the adapters' names
// from /sys under root.
func adapters(dev, root string) []adapter {
	paths, _ := filepath.Glob(filepath.Join(dev, "i2c-*")) // the pattern is well formed
	var all []adapter
	for _, p := range paths {
		n, err := busNumber(filepath.Base(p))
		if info, e := os.Lstat(p); err != nil || e != nil || info.Mode()&os.ModeSymlink != 0 {
			continue // a link is another name of a bus that is listed
		}
		name, _ := os.ReadFile(filepath.Join(root, "sys/bus/i2c/devices", filepath.Base(p), "name")) // without the file it has no name
		all = append(all, adapter{n, strings.TrimSpace(string(name))})
	}
	slices.SortFunc(all, func(a, b adapter) int { return a.number - b.number })
	return all
}

// findBus returns the number of the bus that a name means now. The number of a USB
// adapter changes when it is plugged in again, and with the order in which the kernel
// finds several. Its name, and a link that a udev rule makes, do not change.
//
//   - i2c-1, 1 or /dev/i2c-1: the bus of that number, even if it does not exist;
//     if that file is a link, as /dev/i2c-10 on a Compute Module 5, the bus it
//     leads to.
//   - /dev/NAME: the bus that the link leads to.
//   - Anything else is the adapter's name or part of it, upper or lower case.
func findBus(dev, root, name string) (number int, err error) {
	if n, err := busNumber(name); err == nil {
		if target, err := filepath.EvalSymlinks(filepath.Join(dev, fmt.Sprintf("i2c-%d", n))); err == nil {
			if other, err := busNumber(filepath.Base(target)); err == nil {
				n = other
			}
		}
		return n, nil
	}
	if link, ok := strings.CutPrefix(name, "/dev/"); ok {
		return linkedBus(filepath.Join(dev, link), name)
	}
	all := adapters(dev, root)
	var found []adapter
	for _, a := range all {
		switch {
		case name == "":
		case strings.EqualFold(a.name, name):
			return a.number, nil
		case strings.Contains(strings.ToLower(a.name), strings.ToLower(name)):
			found = append(found, a)
		}
	}
	switch len(found) {
	case 0:
		return 0, fmt.Errorf("find bus %q: no I2C adapter has this in its name: %w; %s", name, ErrAbsent, busesHint(all))
	case 1:
		return found[0].number, nil
	}
	return 0, fmt.Errorf("find bus %q: it may be any of %s; write more of its name, or its number", name, join(found))
}

// linkedBus follows a link to a bus's device file.
func linkedBus(path, name string) (int, error) {
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return 0, fmt.Errorf("find bus %q: %w (%w); a udev rule makes such a link: SUBSYSTEM==\"i2c-dev\", ..., SYMLINK+=%q", name, ErrAbsent, err, strings.TrimPrefix(name, "/dev/"))
	}
	n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(target), "i2c-"))
	if err != nil || n < 0 || !strings.HasPrefix(filepath.Base(target), "i2c-") {
		return 0, fmt.Errorf("find bus %q: it leads to %s, which is no I2C bus", name, filepath.Base(target))
	}
	return n, nil
}

// busesHint names the buses of this machine, or says how to get one.
func busesHint(all []adapter) string {
	if len(all) == 0 {
		return "this machine shows no I2C bus: on a Raspberry Pi set dtparam=i2c_arm=on in config.txt and restart, elsewhere load the module i2c-dev"
	}
	return "this machine has " + join(all) + "; on a Raspberry Pi the header's bus is i2c-1, enabled with dtparam=i2c_arm=on in config.txt"
}

func join(all []adapter) string {
	words := make([]string, len(all))
	for i, a := range all {
		words[i] = a.String()
	}
	return strings.Join(words, ", ")
}

// busNames lists the I2C buses in dev, by number.
func busNames(dev string) []string {
	var names []string
	for _, a := range adapters(dev, "") {
		names = append(names, fmt.Sprintf("i2c-%d", a.number))
	}
	return names
}
