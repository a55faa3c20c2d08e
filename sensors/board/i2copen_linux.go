package board

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// i2cDevice is the real i2cFile.
type i2cDevice struct{ f *os.File }

func (d i2cDevice) value(req uint, arg uintptr) error {
	return d.call(func(fd uintptr) unix.Errno {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, uintptr(req), arg)
		return errno
	})
}

func (d i2cDevice) pointer(req uint, arg unsafe.Pointer) error {
	return d.call(func(fd uintptr) unix.Errno {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, uintptr(req), uintptr(arg))
		return errno
	})
}

func (d i2cDevice) Close() error { return d.f.Close() }

// call makes a system call on the file and repeats it if a signal interrupted it. The Go
// runtime sends itself signals.
func (d i2cDevice) call(fn func(fd uintptr) unix.Errno) error {
	return control(d.f, func(fd uintptr) error {
		for {
			switch errno := fn(fd); errno {
			case 0:
				return nil
			case unix.EINTR:
			default:
				return errno
			}
		}
	})
}

// control calls fn with the file's descriptor, which is not closed before fn returns.
func control(f *os.File, fn func(fd uintptr) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = fn(fd) }); err != nil {
		return err
	}
	return inner
}

// busNumber parses a bus's name: i2c-1, 1 or /dev/i2c-1.
func busNumber(name string) (int, error) {
	digits := strings.TrimPrefix(strings.TrimPrefix(name, "/dev/"), "i2c-")
	n, err := strconv.Atoi(digits)
	if err != nil || n < 0 || strconv.Itoa(n) != digits || name == "/dev/"+digits {
		return 0, fmt.Errorf("bus %q: want i2c-1, 1 or /dev/i2c-1", name)
	}
	return n, nil
}

// openI2C opens the bus that a name means now. Its device file is in dev, and /sys is
// under root.
func openI2C(dev, root, name string) (*i2cBus, error) {
	n, err := findBus(dev, root, name)
	if err != nil {
		return nil, err
	}
	short := "i2c-" + strconv.Itoa(n)
	path := filepath.Join(dev, short)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, busOpenError(adapters(dev, root), short, path, err)
	}
	b, err := newI2CBus(short, i2cDevice{f})
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	b.root = root
	return b, nil
}

// busOpenError says why a bus cannot be opened and what to do about it.
func busOpenError(all []adapter, short, path string, err error) error {
	var named *fs.PathError
	if errors.As(err, &named) {
		err = named.Err // the message has the path already
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("open bus %s: %s: %w; %s", short, path, fs.ErrPermission, groupHint(path, "i2c"))
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		return fmt.Errorf("open bus %s: %s is %w (%w); %s", short, path, ErrAbsent, err, busesHint(all))
	}
	return fmt.Errorf("open bus %s: %s: %w", short, path, err)
}
