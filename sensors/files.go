package sensors

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// files is a handle on the files of a kernel driver's device, in one directory of /sys.
// Each read of a file may start a conversion.
type files struct {
	handle
	dir  string
	text func(path string) (string, error) // readKernel, except in tests
}

// mostOfFile is how much of a file is read. A value has one line.
const mostOfFile = 4096

// newFiles makes a handle on the files of a directory and begins the first call.
func newFiles(chip, where, dir string) *files {
	f := &files{handle: handle{chip: chip, where: where, name: dir, device: io.NopCloser(nil)}, dir: dir, text: readKernel}
	f.begin()
	return f
}

// read returns the contents of a file without the newline. The error wraps [ErrAbsent] if
// the file or its device does not exist.
func (f *files) read(name string) (text string, err error) {
	err = f.do(func() error {
		text, err = f.text(filepath.Join(f.dir, name))
		return err
	})
	return text, err
}

// readKernel reads a file of /sys.
func readKernel(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", absent(err)
	}
	b, err := io.ReadAll(io.LimitReader(file, mostOfFile))
	if err := errors.Join(err, file.Close()); err != nil {
		return "", absent(err)
	}
	return strings.TrimSpace(string(b)), nil
}

// again reads a file like read, and once more after EIO or ETIMEDOUT: the kernel's driver
// did not understand the chip, or got no answer in time, as happens now and then with
// single-wire sensors.
func (f *files) again(name string) (string, error) {
	text, err := f.read(name)
	if errors.Is(err, syscall.EIO) || errors.Is(err, syscall.ETIMEDOUT) {
		text, err = f.read(name)
	}
	return text, err
}

// errRemoteIO is Linux's EREMOTEIO, which package syscall does not have on every system.
const errRemoteIO = syscall.Errno(121)

// absent wraps the kernel's errors for a device that was removed in [ErrAbsent], and those of
// a chip that did not acknowledge, whose driver is still there, in [ErrSilent]. Source: Linux,
// Documentation/i2c/fault-codes.rst, ENXIO; some adapters, such as a Raspberry Pi's, return
// EREMOTEIO instead.
func absent(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENODEV):
		return fmt.Errorf("%w: %w", ErrAbsent, err)
	case errors.Is(err, syscall.ENXIO), errors.Is(err, errRemoteIO):
		return fmt.Errorf("%w: %w", ErrSilent, err)
	}
	return err
}
