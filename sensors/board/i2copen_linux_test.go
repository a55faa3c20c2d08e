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

// touch makes empty files in a new directory that plays /dev.
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

// A file that is no device is opened, asked, refused and closed again.
func TestOpenI2CNoDevice(t *testing.T) {
	b, err := openI2C(touch(t, "i2c-1"), "/", "i2c-1")
	if !errors.Is(err, unix.ENOTTY) || b != nil {
		t.Errorf("%v, %v, want %v", b, err, unix.ENOTTY)
	}
	if _, err := openI2C(touch(t), "/", "one"); err == nil {
		t.Error("opened bus \"one\"")
	}
}

func TestBusOpenErrors(t *testing.T) {
	dev := touch(t, "i2c-1")
	path := filepath.Join(dev, "i2c-1")
	open := func(errno error) error {
		return busOpenError(dev, "i2c-1", path, &fs.PathError{Op: "open", Path: path, Err: errno})
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
	if got := groupHint(filepath.Join(dev, "gone"), "i2c"); !strings.Contains(got, "into the group i2c") {
		t.Errorf("hint for a missing file: %q", got)
	}
	if got := groupHint(path, "i2c"); !strings.Contains(got, "udev rule") {
		t.Errorf("hint for a file of mode 0600: %q", got)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, -1, 54321); err != nil {
		// Without the right to give files away the group stays our own.
		if os.Getgid() == 0 {
			t.Fatal(err)
		}
		if got := groupHint(path, "i2c"); !strings.Contains(got, "which may open it") {
			t.Errorf("hint for our own group's file: %q", got)
		}
		return
	}
	if got := groupHint(path, "i2c"); !strings.Contains(got, "into the group 54321, which may open it") {
		t.Errorf("hint for a group without a name: %q", got)
	}
}

// The real device's two ways into the kernel, on a file where both are refused.
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
