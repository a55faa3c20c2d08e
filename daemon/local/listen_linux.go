package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Supported reports whether this system supports the socket.
const Supported = true

// mode lets the daemon's user and its group connect.
const mode fs.FileMode = 0o660

// longestPath is the longest path in a sockaddr_un (unix(7)), which also needs a NUL byte.
const longestPath = 107

// socket is a listening unix socket and its path.
type socket struct {
	*net.UnixListener
	path string
	file fs.FileInfo
}

// listen opens the socket at path. It creates it under another name with access for nobody
// else, then gives its group access and renames it. So there is never a moment with the wrong
// mode or without a socket. It replaces a socket that a crash has left behind, but not one on
// which somebody answers.
func listen(path string) (listener, error) {
	next := path + ".new"
	if len(next) > longestPath {
		return nil, fmt.Errorf("open socket: path is longer than %d bytes: %q", longestPath, next)
	}
	if err := vacant(path); err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	l, err := bind(next)
	if err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	s := &socket{UnixListener: l, path: path}
	if err := s.place(next); err != nil {
		return nil, fmt.Errorf("open socket: %w", errors.Join(err, l.Close(), os.Remove(next)))
	}
	return s, nil
}

// bind opens a socket to which only its user can connect. bind(2) gives the file the mode of
// the socket, less the umask.
func bind(path string) (*net.UnixListener, error) {
	closed := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		if err := c.Control(func(fd uintptr) { failed = unix.Fchmod(int(fd), 0o600) }); err != nil {
			return err
		}
		return failed
	}}
	l, err := closed.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	u := l.(*net.UnixListener)
	u.SetUnlinkOnClose(false)
	return u, nil
}

// place gives the socket's group access and renames it.
func (s *socket) place(next string) (err error) {
	if err := os.Chmod(next, mode); err != nil {
		return err
	}
	if s.file, err = os.Lstat(next); err != nil {
		return err
	}
	return os.Rename(next, s.path)
}

// vacant returns nil if a socket can be created at path. The error says why not: somebody
// answers there, or the file is not a socket.
func vacant(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%q exists and is not a socket; remove it", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		return errors.Join(fmt.Errorf("another daemon answers at %q", path), c.Close())
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT):
		return nil
	}
	return fmt.Errorf("another daemon may be at %q: %w", path, err)
}

func (s *socket) accept() (net.Conn, Peer, error) {
	c, err := s.AcceptUnix()
	if err != nil {
		return nil, Peer{}, fmt.Errorf("accept: %w", err)
	}
	p, err := credentials(c)
	if err != nil {
		return nil, Peer{}, errors.Join(err, c.Close())
	}
	return c, p, nil
}

// credentials returns the peer's credentials from the kernel.
func credentials(c *net.UnixConn) (Peer, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return Peer{}, fmt.Errorf("get peer credentials: %w", err)
	}
	var u *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) { u, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		failed = err
	}
	if failed != nil {
		return Peer{}, fmt.Errorf("get peer credentials: %w", failed)
	}
	return Peer{UID: u.Uid, GID: u.Gid, PID: u.Pid}, nil
}

func (s *socket) intact() bool {
	info, err := os.Lstat(s.path)
	return err == nil && os.SameFile(info, s.file)
}

// Close ends accept, and removes the socket file if it is still ours.
func (s *socket) Close() error {
	var gone error
	if s.intact() {
		gone = os.Remove(s.path)
	}
	return errors.Join(gone, s.UnixListener.Close())
}

// groupOf returns the name of the group that may connect to the socket at path, or "" if it
// is unknown.
func groupOf(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	id := fmt.Sprint(st.Gid)
	if g, err := user.LookupGroupId(id); err == nil {
		return g.Name
	}
	return id
}
