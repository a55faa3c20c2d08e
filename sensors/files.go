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

// files are the kernel's files of one device, in one directory of /sys: its
// driver is the kernel's, and each read of a file may be a conversion.
type files struct {
	handle
	dir  string
	text func(path string) (string, error) // readKernel, but in tests
}

// mostOfFile is how much of a file is read. A value has a line.
const mostOfFile = 4096

// newFiles makes a handle on the files of a directory and begins the first call.
func newFiles(chip, where, dir string) *files {
	f := &files{handle: handle{chip: chip, where: where, name: dir, device: io.NopCloser(nil)}, dir: dir, text: readKernel}
	f.begin()
	return f
}

// read returns the text of a file, without the line's end. The error wraps
// [ErrAbsent] where the file or its device is gone.
func (f *files) read(name string) (text string, err error) {
	err = f.do(func() error {
		text, err = f.text(filepath.Join(f.dir, name))
		return err
	})
	return text, err
}

// readKernel reads a file of the kernel's.
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

// again reads a file as read does, and once more where the kernel's driver did not
// understand the chip or was not answered in time, as happens now and then to the
// single-wire sensors: EIO and ETIMEDOUT.
func (f *files) again(name string) (string, error) {
	text, err := f.read(name)
	if errors.Is(err, syscall.EIO) || errors.Is(err, syscall.ETIMEDOUT) {
		text, err = f.read(name)
	}
	return text, err
}

// absent makes an [ErrAbsent] of what the kernel says of a device that is gone.
func absent(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV) || errors.Is(err, syscall.ENXIO) {
		return fmt.Errorf("%w: %w", ErrAbsent, err)
	}
	return err
}
