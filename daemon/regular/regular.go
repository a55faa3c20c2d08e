// Package regular opens regular files, and nothing that only looks like one. A
// FIFO blocks whoever opens it until somebody writes, opening a device may start
// a watchdog or rewind a tape, a link may lead anywhere. What is opened here
// blocks for nothing but its disk.
package regular

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

var (
	// ErrKind is the reason when there is something else than a regular file.
	ErrKind = errors.New("want a regular file")
	// ErrLarge is the reason when a file holds more than it may.
	ErrLarge = errors.New("the file is too large")
)

// Read returns what the regular file at path holds, at most that many bytes.
// path may be a link. The error is an [fs.PathError] and wraps what the system
// said, [ErrKind] or [ErrLarge]. Any goroutine; it waits for the disk only.
func Read(path string, most int64) ([]byte, error) {
	return read(path, most, Open)
}

// ReadUnlinked is like [Read], but where path itself is a link it is refused:
// for files in a directory in which another user than the one who reads may
// put things.
func ReadUnlinked(path string, most int64) ([]byte, error) {
	return read(path, most, func(path string) (*os.File, error) { return OpenUnlinked(path, os.O_RDONLY, 0) })
}

func read(path string, most int64, open func(path string) (*os.File, error)) ([]byte, error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // nothing was written
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(data)) > most {
		err = &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("%w: more than %d bytes", ErrLarge, most)}
	}
	if err != nil {
		return nil, err
	}
	return data, nil
}

// Check reports whether [Open] would find a regular file at path, without opening
// it. Errors are as with [Read].
func Check(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return kind(path, info)
}

// Open opens the regular file at path, or to which the link there leads, for
// reading. Errors are as with [Read].
func Open(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	return open(path, info, os.O_RDONLY, 0)
}

// OpenUnlinked opens the regular file at path as [os.OpenFile] does. A link
// there is refused, also one that leads nowhere: os.O_CREATE makes no file
// elsewhere, and os.O_TRUNC empties none. Errors are as with [Read].
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

// open opens what info says is there, if it is a regular file; nil is nothing.
// It looks before, because to open is to act on some devices, and after,
// because it may have been put there in between.
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

// kind is nil for a regular file.
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
