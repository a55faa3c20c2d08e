package spool

import (
	"io"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// quickFile returns a file that may be written faster than f, and is f if f is not in memory
// (tmpfs), as it is in systemd's RuntimeDirectory=. Only one goroutine at a time may write it.
func quickFile(f *os.File) riskStore {
	raw, err := f.SyscallConn()
	if err != nil {
		return f
	}
	inMemory := false
	_ = raw.Control(func(fd uintptr) { // an error leaves it at false
		var fs unix.Statfs_t
		inMemory = unix.Fstatfs(int(fd), &fs) == nil && fs.Type == unix.TMPFS_MAGIC
	})
	if !inMemory {
		return f
	}
	m := &memoryFile{File: f, raw: raw}
	m.write = m.writeOnce
	return m
}

// memoryFile is a file in memory. Writing it waits for no disk, so Go's scheduler is not told of
// the system call, which would wake Go's monitor thread up.
type memoryFile struct {
	*os.File
	raw   syscall.RawConn
	write func(fd uintptr) // writeOnce, made once

	// Of the write that is under way.
	p     []byte
	n     int
	errno syscall.Errno
}

// WriteAt implements [io.WriterAt]. At other offsets than 0 it is the file's own.
func (m *memoryFile) WriteAt(p []byte, off int64) (int, error) {
	if off != 0 || len(p) == 0 {
		return m.File.WriteAt(p, off)
	}
	m.p, m.n, m.errno = p, 0, 0
	err := m.raw.Control(m.write)
	m.p = nil
	switch {
	case err != nil:
		return 0, &os.PathError{Op: "write", Path: m.Name(), Err: os.ErrClosed}
	case m.errno != 0:
		return 0, &os.PathError{Op: "write", Path: m.Name(), Err: m.errno}
	case m.n < len(p):
		return m.n, io.ErrShortWrite
	}
	return m.n, nil
}

func (m *memoryFile) writeOnce(fd uintptr) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_PWRITE64, fd, uintptr(unsafe.Pointer(unsafe.SliceData(m.p))), uintptr(len(m.p)), 0, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		m.n, m.errno = int(n), errno
		return
	}
}
