package board

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestBusNumber(t *testing.T) {
	for in, want := range map[string]int{"i2c-1": 1, "1": 1, "/dev/i2c-1": 1, "i2c-0": 0, "i2c-22": 22} {
		if got, err := busNumber(in); err != nil || got != want {
			t.Errorf("busNumber(%q) = %d, %v, want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "i2c", "i2c-", "i2c-x", "i2c--1", "-1", "+1", "i2c-01", "01", "/dev/1", "/dev/i2c-", "I2C1", "i2c-1 ", "99999999999999999999", "/dev/i2c-i2c-1"} {
		if n, err := busNumber(in); err == nil || !strings.Contains(err.Error(), "want i2c-1, 1 or /dev/i2c-1") {
			t.Errorf("busNumber(%q) = %d, %v, want a refusal", in, n, err)
		}
	}
}

// A bus is found by its adapter's name, a part of it, or a link, also after it was
// plugged in again with another number.
func TestFindBus(t *testing.T) {
	dev := touch(t, "i2c-1", "i2c-7", "i2c-10", "i2c-11", "gpiochip0")
	root := writeRoot(t, map[string]string{
		"sys/bus/i2c/devices/i2c-1/name":  "bcm2835 (i2c@7e804000)\n",
		"sys/bus/i2c/devices/i2c-7/name":  "i2c-ch341-usb at bus 001 device 004\n",
		"sys/bus/i2c/devices/i2c-10/name": "MCP2221 usb-i2c bridge\n",
		"sys/bus/i2c/devices/i2c-11/name": "MCP2221 usb-i2c bridge on hidraw1\n",
	})
	for link, target := range map[string]string{"i2c-green": "i2c-7", "sensors": "i2c-10", "i2c-20": "i2c-7", "stray": "gpiochip0", "gone": "i2c-9", "i2c-odd": "gpiochip0"} {
		if err := os.Symlink(target, filepath.Join(dev, link)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]int{
		"i2c-1": 1, "i2c-3": 3, "i2c-20": 7, "/dev/i2c-20": 7, "CH341": 7, "ch341-usb at": 7, "BCM2835": 1, "/dev/i2c-green": 7, "/dev/sensors": 10,
		"MCP2221 usb-i2c bridge": 10, "hidraw1": 11,
	} {
		if got, err := findBus(dev, root, name); err != nil || got != want {
			t.Errorf("%q is %d, %v, want %d", name, got, err, want)
		}
	}
	for name, want := range map[string]string{
		"FT232":       `find bus "FT232": no I2C adapter has this in its name: not there; this machine has i2c-1 (bcm2835 (i2c@7e804000)), i2c-7 (i2c-ch341-usb`,
		"":            "no I2C adapter",
		"MCP2221":     "it may be any of i2c-10 (MCP2221 usb-i2c bridge), i2c-11 (MCP2221 usb-i2c bridge on hidraw1); write more of its name",
		"/dev/none":   `SYMLINK+="none"`,
		"/dev/gone":   "not there",
		"/dev/stray":  "leads to gpiochip0, which is no I2C bus",
		"/dev/../etc": "not there",
	} {
		if n, err := findBus(dev, root, name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is %d, %v, want %q", name, n, err, want)
		}
	}
	if names := busNames(dev); !slices.Equal(names, []string{"i2c-1", "i2c-7", "i2c-10", "i2c-11"}) {
		t.Errorf("buses %q, want no links", names)
	}
	if err := os.Rename(filepath.Join(dev, "i2c-7"), filepath.Join(dev, "i2c-8")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(root, "sys/bus/i2c/devices/i2c-7"), filepath.Join(root, "sys/bus/i2c/devices/i2c-8")); err != nil {
		t.Fatal(err)
	}
	if got, err := findBus(dev, root, "CH341"); err != nil || got != 8 {
		t.Errorf("after it came back: %d, %v, want 8", got, err)
	}
}

// touch creates empty files in a new directory, which replaces /dev.
func touch(t *testing.T, names ...string) string {
	t.Helper()
	dev := t.TempDir()
	for _, n := range names {
		if err := os.WriteFile(filepath.Join(dev, n), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dev
}

func TestBusNames(t *testing.T) {
	dev := touch(t, "i2c-10", "i2c-2", "i2c-x", "i2c-1", "i2c-01")
	if got, want := busNames(dev), []string{"i2c-1", "i2c-2", "i2c-10"}; !slices.Equal(got, want) {
		t.Errorf("busNames = %v, want %v", got, want)
	}
}

func TestOpenI2CMissing(t *testing.T) {
	_, err := openI2C(touch(t), "/", "1")
	if !errors.Is(err, ErrAbsent) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, want an absent bus", err)
	}
	for _, want := range []string{"open bus i2c-1", "/i2c-1 is not there", "shows no I2C bus", "dtparam=i2c_arm=on"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q in it", err, want)
		}
	}
	_, err = openI2C(touch(t, "i2c-0", "i2c-20"), "/", "i2c-1")
	if !errors.Is(err, ErrAbsent) || !strings.Contains(err.Error(), "this machine has i2c-0, i2c-20") {
		t.Errorf("%v, want the buses there are", err)
	}
}

// A file that is no device is opened, fails its first request, and is closed again.
func TestOpenI2CNoDevice(t *testing.T) {
	b, err := openI2C(touch(t, "i2c-1"), "/", "i2c-1")
	if !errors.Is(err, unix.ENOTTY) || b != nil {
		t.Errorf("%v, %v, want %v", b, err, unix.ENOTTY)
	}
	if _, err := openI2C(touch(t), "/", "one"); !errors.Is(err, ErrAbsent) {
		t.Errorf("opened bus \"one\": %v", err)
	}
}

func TestBusOpenErrors(t *testing.T) {
	dev := touch(t, "i2c-1")
	path := filepath.Join(dev, "i2c-1")
	open := func(errno error) error {
		return busOpenError(adapters(dev, ""), "i2c-1", path, &fs.PathError{Op: "open", Path: path, Err: errno})
	}
	if err := open(unix.EACCES); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "group i2c") || !strings.Contains(err.Error(), path) {
		t.Errorf("%v, want permission, path and group", err)
	}
	if err := open(unix.ENXIO); !errors.Is(err, ErrAbsent) || !errors.Is(err, unix.ENXIO) {
		t.Errorf("%v, want absent", err)
	}
	if err := open(unix.EMFILE); !errors.Is(err, unix.EMFILE) || errors.Is(err, ErrAbsent) {
		t.Errorf("%v, want the errno alone", err)
	}
}

func TestGroupHint(t *testing.T) {
	dev := touch(t, "i2c-1")
	path := filepath.Join(dev, "i2c-1")
	if got := groupHint(filepath.Join(dev, "gone"), "i2c"); !strings.Contains(got, "to the group i2c") {
		t.Errorf("hint for a missing file: %q", got)
	}
	if got := groupHint(path, "i2c"); !strings.Contains(got, "udev rule") {
		t.Errorf("hint for a file of mode 0600: %q", got)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, -1, 54321); err != nil {
		// Only root can change the file's group to another.
		if os.Getgid() == 0 {
			t.Fatal(err)
		}
		if got := groupHint(path, "i2c"); !strings.Contains(got, "which may open it") {
			t.Errorf("hint for our own group's file: %q", got)
		}
		return
	}
	if got := groupHint(path, "i2c"); !strings.Contains(got, "to the group 54321, which may open it") {
		t.Errorf("hint for a group without a name: %q", got)
	}
}

// Both kinds of requests of the real device fail on a file that is no device.
func TestI2CDeviceRefusals(t *testing.T) {
	f, err := os.Open(filepath.Join(touch(t, "i2c-1"), "i2c-1"))
	if err != nil {
		t.Fatal(err)
	}
	d := i2cDevice{f}
	if err := d.value(reqTimeout, 10); !errors.Is(err, unix.ENOTTY) {
		t.Errorf("value: %v, want %v", err, unix.ENOTTY)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if err := d.value(reqTimeout, 10); err == nil || !strings.Contains(err.Error(), "closed file") {
		t.Errorf("value on a closed file: %v", err)
	}
}
