// Package regular opens regular files only. Opening a FIFO blocks until somebody writes to it,
// opening a device may start a watchdog or rewind a tape, and a link may lead anywhere. Files
// opened here wait for their disk and for nothing else.
package regular

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

var (
	// ErrKind is the reason when it is not a regular file.
	ErrKind = errors.New("want a regular file")
	// ErrLarge is the reason when a file is larger than allowed.
	ErrLarge = errors.New("the file is too large")
)

// Read returns the content of the regular file at path, at most that many bytes. path may be a
// link. The error is an [fs.PathError] and wraps the system's error, [ErrKind] or [ErrLarge].
// Any goroutine; it waits for the disk only.
func Read(path string, most int64) ([]byte, error) {
	return read(path, most, Open)
}

// ReadUnlinked is like [Read], but refuses a link at path. It is for files in a directory to
// which another user may write.
func ReadUnlinked(path string, most int64) ([]byte, error) {
	return read(path, most, func(path string) (*os.File, error) { return OpenUnlinked(path, os.O_RDONLY, 0) })
}

func read(path string, most int64, open func(path string) (*os.File, error)) ([]byte, error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // it was only read
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(data)) > most {
		err = &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("%w: more than %d bytes", ErrLarge, most)}
	}
	if err != nil {
		return nil, err
	}
	return data, nil
}

// Check checks that [Open] would find a regular file at path, without opening it. Errors are
// those of [Read].
func Check(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return kind(path, info)
}

// Open opens the regular file at path for reading. path may be a link. Errors are those of
// [Read].
func Open(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	return open(path, info, os.O_RDONLY, 0)
}

// OpenUnlinked opens the regular file at path like [os.OpenFile]. It refuses a link, also one
// that leads nowhere, so os.O_CREATE creates no file elsewhere and os.O_TRUNC empties none.
// Errors are those of [Read].
func OpenUnlinked(path string, flag int, perm fs.FileMode) (*os.File, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && flag&os.O_CREATE != 0:
		info = nil
	case err != nil:
		return nil, err
	}
	return open(path, info, flag|noFollow, perm)
}

// open opens the file that info describes, if it is a regular file; a nil info means that there
// is none. It checks before, because opening some devices has effects, and after, because the
// file may have been replaced in between.
func open(path string, info fs.FileInfo, flag int, perm fs.FileMode) (*os.File, error) {
	if info != nil {
		if err := kind(path, info); err != nil {
			return nil, err
		}
	}
	truncate := flag&os.O_TRUNC != 0
	f, err := os.OpenFile(path, flag&^os.O_TRUNC|noBlock, perm)
	if err != nil {
		return nil, err
	}
	if info, err = f.Stat(); err == nil {
		err = kind(path, info)
	}
	if err == nil && truncate {
		err = f.Truncate(0)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// kind returns nil for a regular file.
func kind(path string, info fs.FileInfo) error {
	what := "something else"
	switch m := info.Mode(); {
	case m.IsRegular():
		return nil
	case m.IsDir():
		what = "a directory"
	case m&fs.ModeSymlink != 0:
		what = "a link"
	case m&fs.ModeNamedPipe != 0:
		what = "a FIFO"
	case m&fs.ModeSocket != 0:
		what = "a socket"
	case m&fs.ModeDevice != 0:
		what = "a device"
	}
	return &fs.PathError{Op: "open", Path: path, Err: fmt.Errorf("%w, not %s", ErrKind, what)}
}
